//! Key files and the signer seam.
