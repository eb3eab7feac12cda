//! Layouts on disk, whole and hostile.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const MANIFEST: &str = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;

/// A layout with one image, `v1`, as it should be.
struct Made(TempDir);

impl Made {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(made.path().join("blobs/sha256")).unwrap();
        made.file("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}).to_string());
        made.blob(MANIFEST);
        made.index(&[Self::image("v1")]);
        made
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str, content: &str) {
        fs::write(self.path().join(name), content).unwrap();
    }

    fn index(&self, manifests: &[Value]) {
        self.file("index.json", &json!({"schemaVersion": 2, "manifests": manifests}).to_string());
    }

    fn blob(&self, content: &str) {
        fs::write(self.place(content), content).unwrap();
    }

    fn place(&self, content: &str) -> PathBuf {
        self.path().join("blobs/sha256").join(Digest::of(content.as_bytes()).hex())
    }

    fn image(name: &str) -> Value {
        let mut image =
            serde_json::to_value(Descriptor::of(media_type::MANIFEST, MANIFEST.as_bytes())).unwrap();
        image["annotations"] = json!({REF_NAME: name});
        image
    }

    fn read(&self, name: Option<&str>) -> Result<Vec<u8>, LayoutError> {
        let layout = Layout::open(self.path())?;
        layout.manifest(layout.image(name)?)
    }
}

#[test]
fn an_image_is_found_by_its_name_or_as_the_only_one() {
    let made = Made::new();
    assert_eq!(made.read(None).unwrap(), MANIFEST.as_bytes());
    assert_eq!(made.read(Some("v1")).unwrap(), MANIFEST.as_bytes());
    let refused = made.read(Some("v2"));
    assert!(matches!(refused, Err(LayoutError::NoSuchImage { names, .. }) if names == "v1"));
    // Two names for one image are no question; two images are.
    made.index(&[Made::image("v1"), Made::image("v2")]);
    assert_eq!(made.read(None).unwrap(), MANIFEST.as_bytes());
    let mut other = Made::image("v2");
    other["digest"] = json!(Digest::of(b"other"));
    made.index(&[Made::image("v1"), other.clone()]);
    assert!(matches!(made.read(None), Err(LayoutError::Several { names, .. }) if names == "v1, v2"));
    assert_eq!(made.read(Some("v1")).unwrap(), MANIFEST.as_bytes());
    // One name for two images: neither.
    other["annotations"][REF_NAME] = json!("v1");
    made.index(&[Made::image("v1"), other]);
    assert!(matches!(made.read(Some("v1")), Err(LayoutError::Several { .. })));
    made.index(&[]);
    assert!(matches!(made.read(None), Err(LayoutError::NoSuchImage { name: None, .. })));
}

#[test]
fn a_blob_must_be_what_the_layout_says() {
    let made = Made::new();
    let place = made.place(MANIFEST);
    fs::write(&place, MANIFEST.replace('2', "3")).unwrap();
    assert!(matches!(made.read(None), Err(LayoutError::Digest { path, .. }) if path == place));
    fs::write(&place, format!("{MANIFEST} ")).unwrap();
    assert!(matches!(made.read(None), Err(LayoutError::Size { path, .. }) if path == place));
    fs::remove_file(&place).unwrap();
    assert!(matches!(made.read(None), Err(LayoutError::Missing { path }) if path == place));
    made.blob(MANIFEST);
    let mut image = Made::image("v1");
    image["size"] = json!(MAX_FILE + 1);
    made.index(std::slice::from_ref(&image));
    assert!(matches!(made.read(None), Err(LayoutError::TooLong { path, .. }) if path == place));
    image["size"] = json!(-1);
    made.index(&[image]);
    assert!(matches!(made.read(None), Err(LayoutError::Shape { .. })));
}

/// T63: a digest is the only thing that is made a path.
#[test]
fn nothing_outside_of_the_layout_is_read() {
    let made = Made::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), MANIFEST).unwrap();
    for digest in ["sha256:../../secret", "../secret", "sha256:", "/etc/passwd"] {
        let mut image = Made::image("v1");
        image["digest"] = json!(digest);
        made.index(&[image]);
        assert!(matches!(made.read(None), Err(LayoutError::Shape { .. })), "{digest}");
    }
    made.index(&[Made::image("v1")]);
    let place = made.place(MANIFEST);
    fs::remove_file(&place).unwrap();
    symlink(outside.path().join("secret"), &place).unwrap();
    assert!(matches!(made.read(None), Err(LayoutError::NotPlain { path }) if path == place));
    for (name, kept) in
        [("blobs/sha256", "kept"), ("index.json", "kept-index"), ("oci-layout", "kept-layout")]
    {
        let made = Made::new();
        let (there, kept) = (made.path().join(name), outside.path().join(kept));
        fs::rename(&there, &kept).unwrap();
        symlink(&kept, &there).unwrap();
        assert!(matches!(made.read(None), Err(LayoutError::NotPlain { path }) if path == there), "{name}");
    }
    // Not waited for, either.
    let made = Made::new();
    fs::remove_file(made.path().join("index.json")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(made.path().join("index.json")).status().unwrap();
    assert!(pipe.success());
    assert!(matches!(made.read(None), Err(LayoutError::NotPlain { .. })));
}

#[test]
fn what_is_no_layout_of_version_1_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    let refused = Layout::open(empty.path());
    assert!(matches!(refused, Err(LayoutError::Missing { path }) if path.ends_with("oci-layout")));
    let made = Made::new();
    made.file("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#);
    assert!(matches!(made.read(None), Err(LayoutError::Version { version, .. }) if version == "2.0.0"));
    let made = Made::new();
    made.file("index.json", r#"{"manifests":[],"manifests":[]}"#);
    assert!(matches!(made.read(None), Err(LayoutError::Json { .. })));
    let made = Made::new();
    made.file("index.json", &" ".repeat(usize::try_from(MAX_INDEX).unwrap() + 1));
    assert!(matches!(made.read(None), Err(LayoutError::TooLong { .. })));
}

/// T77.
#[test]
fn what_is_not_plainly_a_manifest_is_refused() {
    let both = MANIFEST.replace("\"layers\"", "\"manifests\":[],\"layers\"");
    let list = format!(r#"{{"mediaType":"{}"}}"#, media_type::DOCKER_LIST);
    for (content, media_type) in [
        (both.as_str(), media_type::MANIFEST),
        (&list, media_type::MANIFEST),
        (MANIFEST, media_type::INDEX),
        (MANIFEST, "application/octet-stream"),
    ] {
        let made = Made::new();
        made.blob(content);
        made.index(&[serde_json::to_value(Descriptor::of(media_type, content.as_bytes())).unwrap()]);
        assert!(matches!(made.read(None), Err(LayoutError::MediaType { .. })), "{content} {media_type}");
    }
}
