"""Plan and apply: the one road to the world for machines.

A request goes: commands (lease, observe) → decide (pure: Plan) → apply (walks it, intents in the
ledger around every side effect). The grid is seen through the port ``Workload`` alone, Ansible and
contexts through the port ``Configurator``.
"""
