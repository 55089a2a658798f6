"""The program that runs on a node: it compares the node with a bundle of typed steps and makes it so.

It is packed as one zipapp (package name `panel_agent`), installed as `/usr/bin/panel-ssh-manager`, and run as root through
the one sudo rule that the login user has. `docs/protocol.md` is its contract.

Invariants, which every module here keeps:

* Python 3.6 and later, standard library only, relative imports only; all modules are imported at the start, because the
  zip may be replaced by `upgrade` while a runner still works.
* Nothing that came over the wire is ever a command line or part of one: names match strict patterns, SQL and bodies
  travel over standard input, paths start with a built-in prefix.
* Homes belong to people who may attack us: folders are entered one component at a time without following links, and
  owners and modes are set on open descriptors.
* Before a step changes anything, its intent and what is needed to undo it are on disk.
* Secrets (bodies marked so, passwords) are held in memory-backed, root-only storage and never put in events or errors.
"""
