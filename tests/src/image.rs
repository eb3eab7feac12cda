//! Real images: OCI image layouts around Debian's `/bin/busybox`.

use std::{fs, path::Path};

use plimsoll_core::oci::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    process::Run,
    skopeo::{self, Side},
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The name of the image inside its layout.
const NAME: &str = "image";

/// An OCI image layout (image spec 1.1, image-layout.md) with one image in it; its files go when it is dropped.
///
/// The same message makes the same bytes, so the same digest; another message makes another image.
#[derive(Debug)]
pub struct Image {
    directory: TempDir,
    digest: Digest,
    size: u64,
    media_type: &'static str,
}

impl Image {
    /// An image for `linux/amd64` of two layers: a real static busybox with some of its names, and `/etc/motd` with
    /// `message`.
    ///
    /// # Panics
    /// If `/bin/busybox` is missing (package `busybox-static`), or the layout cannot be written.
    pub fn busybox(message: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let layout = Layout(directory.path());
        let manifest = layout.image(message, "amd64");
        layout.finish(&manifest);
        Self::new(directory, &manifest, MANIFEST)
    }

    /// An index of two such images, for `linux/amd64` and `linux/arm64` (in name: the program is the same).
    ///
    /// # Panics
    /// As [`Image::busybox`].
    pub fn busybox_index(message: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let layout = Layout(directory.path());
        let manifests = ["amd64", "arm64"].map(|architecture| {
            let mut descriptor = layout.image(message, architecture);
            descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
            descriptor
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let descriptor = layout.blob(INDEX, index.to_string().as_bytes());
        layout.finish(&descriptor);
        Self::new(directory, &descriptor, INDEX)
    }

    fn new(directory: TempDir, descriptor: &Value, media_type: &'static str) -> Self {
        let digest = descriptor["digest"].as_str().expect("descriptors name a digest");
        let digest = digest.parse().expect("we wrote a valid digest");
        Self {
            directory,
            digest,
            size: descriptor["size"].as_u64().expect("descriptors name a size"),
            media_type,
        }
    }

    /// The digest of its manifest or index.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The size of its manifest or index, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The media type of its manifest or index.
    pub fn media_type(&self) -> &'static str {
        self.media_type
    }

    /// The directory of the layout.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Pushes it to `reference` (`HOST/REPOSITORY:TAG`) with skopeo, its digest unchanged.
    ///
    /// # Panics
    /// As [`skopeo::copy`].
    pub fn push(&self, reference: &str, side: &Side) -> Run {
        let source = format!("oci:{}:{NAME}", self.path().display());
        skopeo::copy(&source, &Side::plain(), &format!("docker://{reference}"), side)
    }
}

/// A layout being written.
struct Layout<'a>(&'a Path);

impl Layout<'_> {
    /// Writes an image and returns its manifest's descriptor.
    fn image(&self, message: &str, architecture: &str) -> Value {
        let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
        let mut programs = Tar::default();
        programs.directory("bin");
        programs.file("bin/busybox", 0o755, &busybox);
        for name in ["cat", "ls", "sh"] {
            programs.symlink(&format!("bin/{name}"), "busybox");
        }
        let mut files = Tar::default();
        files.directory("etc");
        files.file("etc/motd", 0o644, message.as_bytes());

        let layers = [programs.finish(), files.finish()].map(|tar| self.blob(LAYER, &tar));
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/bin/cat", "/etc/motd"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": layers.each_ref().map(|layer| &layer["digest"])},
        });
        let config = self.blob(CONFIG, config.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Writes a blob and returns its descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let directory = self.0.join("blobs/sha256");
        let digest = Digest::of(bytes);
        fs::create_dir_all(&directory).expect("a temporary directory can be written");
        fs::write(directory.join(digest.hex()), bytes).expect("a temporary directory can be written");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Writes the layout's own two files, with `descriptor` as the one named image.
    fn finish(&self, descriptor: &Value) {
        let mut named = descriptor.clone();
        named["annotations"] = json!({"org.opencontainers.image.ref.name": NAME});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]});
        let layout = json!({"imageLayoutVersion": "1.0.0"});
        for (name, value) in [("index.json", index), ("oci-layout", layout)] {
            fs::write(self.0.join(name), value.to_string()).expect("a temporary directory can be written");
        }
    }
}

/// A tar archive in the making (POSIX.1-1988 ustar); owner root, time 0, so that the bytes are always the same.
#[derive(Debug, Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn directory(&mut self, name: &str) {
        self.entry(&format!("{name}/"), b'5', 0o755, "", &[]);
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, b'0', mode, "", content);
    }

    fn symlink(&mut self, name: &str, target: &str) {
        self.entry(name, b'2', 0o777, target, &[]);
    }

    fn entry(&mut self, name: &str, kind: u8, mode: u32, target: &str, content: &[u8]) {
        assert!(name.len() <= 100 && target.len() <= 100, "names in these images are short");
        let mut header = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}\0").as_bytes());
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, b"00000000000\0");
        // The checksum is made with its own field full of spaces.
        put(148, b"        ");
        put(156, &[kind]);
        put(157, target.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
        self.0.extend(content);
        self.pad(512);
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.pad(10240);
        self.0
    }

    fn pad(&mut self, block: usize) {
        self.0.resize(self.0.len().next_multiple_of(block), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process;

    #[test]
    fn the_same_message_makes_the_same_image() {
        assert_eq!(Image::busybox("a").digest(), Image::busybox("a").digest());
        assert_ne!(Image::busybox("a").digest(), Image::busybox("b").digest());
        assert_ne!(Image::busybox("a").digest(), Image::busybox_index("a").digest());
    }

    #[test]
    fn tar_reads_our_archives() {
        let mut tar = Tar::default();
        tar.directory("etc");
        tar.file("etc/motd", 0o644, b"hello\n");
        tar.symlink("etc/link", "motd");
        let bytes = tar.finish();
        let listed = process::run(Command::new("tar").arg("-t"), &bytes).ok();
        assert_eq!(listed.stdout, "etc/\netc/motd\netc/link\n");
        let read = process::run(Command::new("tar").args(["-xO", "etc/motd"]), &bytes).ok();
        assert_eq!(read.stdout, "hello\n");
    }
}
