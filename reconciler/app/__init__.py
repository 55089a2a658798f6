"""Settings, wiring and the use cases behind the verbs: the only place where the parts are put together."""
