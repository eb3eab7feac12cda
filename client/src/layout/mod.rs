//! OCI image layouts on disk: used by `sign` and bundles.
