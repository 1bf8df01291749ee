"""Generate inelastic proton-proton collisions with PYTHIA 8 and count charged particles.

    pythia8-python generate.py EVENTS SEED OUT.json

Collisions: 13 TeV, SoftQCD:inelastic (non-diffractive, single, double and central diffractive), all
parameters PYTHIA's defaults (Monash 2013). Particles: charged, primary (what lives longer than
tau0 = 10 mm/c does not decay, as ALICE counts), |eta| < 0.8, pT > 0.15 GeV/c. Every event counts,
also one without such a particle.

All numbers written are integers (pT is rounded to keV/c for its sum), so parts merge exactly, in any order.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_right
from pathlib import Path
from typing import Any

import pythia8mc

FORMAT = "orchestrate-pythia-1"
ECM_GEV = 13000
ETA_MAX = 0.8
PT_MIN_GEV = 0.15
# GeV/c; the last bin ends where 2,000 events have a handful of particles left.
PT_EDGES = [0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0]
PT_EDGES += [
    1.1,
    1.2,
    1.3,
    1.4,
    1.5,
    1.6,
    1.8,
    2.0,
    2.2,
    2.4,
    2.6,
    2.8,
    3.0,
    3.5,
    4.0,
    5.0,
    6.0,
    8.0,
    12.0,
    20.0,
]
SETTINGS = (
    "Beams:idA = 2212",
    "Beams:idB = 2212",
    f"Beams:eCM = {ECM_GEV}",
    "SoftQCD:inelastic = on",
    "ParticleDecays:limitTau0 = on",
    "ParticleDecays:tau0Max = 10",
    "Random:setSeed = on",
    "Print:quiet = on",
)


def generate(events: int, seed: int) -> dict[str, Any]:
    """The histograms of exactly ``events`` collisions; the same arguments give the same result."""
    pythia = pythia8mc.Pythia("", False)
    for setting in (*SETTINGS, f"Random:seed = {seed}"):
        if not pythia.readString(setting):
            raise SystemExit(f"generate: PYTHIA refuses the setting {setting!r}")
    if not pythia.init():
        raise SystemExit("generate: PYTHIA did not initialise; its messages are above")
    multiplicity: list[int] = []
    pt_counts = [0] * (len(PT_EDGES) - 1)
    total = {"sum_n": 0, "sum_n2": 0, "sum_pt_kev": 0, "pt_overflow": 0}
    done = refused = 0
    while done < events:
        if not pythia.next():
            refused += 1
            if refused > 10 + events // 10:
                raise SystemExit(f"generate: PYTHIA gave up on {refused} of {done + refused} events")
            continue
        done += 1
        n = 0
        for particle in pythia.event:
            if not (particle.isFinal() and particle.isCharged()) or abs(particle.eta()) >= ETA_MAX:
                continue
            pt = particle.pT()
            if pt <= PT_MIN_GEV:
                continue
            n += 1
            total["sum_pt_kev"] += round(pt * 1e6)
            if pt < PT_EDGES[-1]:
                pt_counts[bisect_right(PT_EDGES, pt) - 1] += 1
            else:
                total["pt_overflow"] += 1
        multiplicity.extend([0] * (n + 1 - len(multiplicity)))
        multiplicity[n] += 1
        total["sum_n"] += n
        total["sum_n2"] += n * n
    return {
        "format": FORMAT,
        "generator": f"PYTHIA {pythia.settings.parm('Pythia:versionNumber'):.3f}",
        "process": f"pp inelastic, {ECM_GEV} GeV",
        "selection": f"charged primary, |eta| < {ETA_MAX}, pT > {PT_MIN_GEV} GeV/c",
        "seeds": [seed],
        "events": events,
        "multiplicity": multiplicity,
        "pt_edges": PT_EDGES,
        "pt": pt_counts,
        **total,
    }


def main(arguments: list[str]) -> int:
    """Write the histograms; exit code 2 when the arguments are wrong."""
    if len(arguments) != 3 or not all(text.isdecimal() and int(text) > 0 for text in arguments[:2]):
        print("usage: generate.py EVENTS SEED OUT.json (EVENTS and SEED at least 1)", file=sys.stderr)
        return 2
    events, seed = int(arguments[0]), int(arguments[1])
    if seed > 900_000_000:  # PYTHIA takes larger ones as "choose by the clock"
        print(f"generate: seed {seed} is above PYTHIA's largest, 900000000", file=sys.stderr)
        return 2
    result = generate(events, seed)
    Path(arguments[2]).write_text(json.dumps(result, sort_keys=True) + "\n")
    print(f"seed {seed}: {events} events, mean multiplicity {result['sum_n'] / events:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
