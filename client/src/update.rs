//! The TUF client workflow: joins tuf, registry and state.
