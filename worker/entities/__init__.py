"""One module an entity: all that the rest of the code knows of it is declared there.

`declaration` says what there is to declare, `registry` collects the declarations of all modules.
"""
