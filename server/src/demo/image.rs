//! A small OCI image, made here.

use bytes::Bytes;
use plimsoll::registry::{Registry, RegistryError};
use plimsoll_core::oci::{Descriptor, Digest, Manifest, RepositoryAddress, media_type};

/// Pushes an image with one layer that holds one file with `text`, and tags it. Returns its descriptor.
pub(super) async fn push(
    registry: &Registry,
    repository: &RepositoryAddress,
    tag: &str,
    text: &str,
) -> Result<Descriptor, RegistryError> {
    let layer = tar("hello.txt", text.as_bytes());
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]},
    });
    let config = config.to_string().into_bytes();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::of("application/vnd.oci.image.config.v1+json", &config),
        layers: vec![Descriptor::of("application/vnd.oci.image.layer.v1.tar", &layer)],
        annotations: Default::default(),
    }
    .to_bytes();
    registry.put_blob(repository, Bytes::from(layer)).await?;
    registry.put_blob(repository, Bytes::from(config)).await?;
    let described = Descriptor::of(media_type::MANIFEST, &manifest);
    registry.put_manifest(repository, tag, media_type::MANIFEST, Bytes::from(manifest)).await?;
    Ok(described)
}

/// A tar archive (POSIX ustar) with one file, mode 0644, owner root, time 0.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    let mut field = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(0, name);
    field(100, "0000644\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{:011o}\0", content.len()));
    field(136, "00000000000\0");
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}
