"""ClassAds: the language of JDL and of matchmaking. Only ``ads`` imports the HTCondor library.

The library's traps are kept in here: an ad that does not parse is silently empty, Undefined and
Error are truthy, an ad without Requirements matches nothing, ``member`` wants the item first, and
JDL may leave out the outer brackets. So JDL text is first cut into attributes by our own scanner,
which knows lines and columns, and each expression is then given to the library on its own.
"""

from orchestrator.classads.ads import Ad, Expression, matches, parse, quote
from orchestrator.classads.text import MAX_TEXT, Attribute, Problem, refuse, scan

__all__ = [
    "MAX_TEXT",
    "Ad",
    "Attribute",
    "Expression",
    "Problem",
    "matches",
    "parse",
    "quote",
    "refuse",
    "scan",
]
