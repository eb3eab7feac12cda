//! How TUF files map onto tags, manifests and layers (docs/oci-mapping.md).
