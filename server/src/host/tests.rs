//! The registry over HTTP, with a client of our own and with skopeo.

use std::{net::SocketAddr, process::Stdio};

use axum::http::{HeaderMap, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use plimsoll_core::oci::{Digest, media_type};
use serde_json::{Value, json};
use tokio::{net::TcpListener, process::Command, task::JoinHandle};

use super::*;

struct Server {
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    task: JoinHandle<()>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(folder: &Path) -> Self {
        let host = Host::open(folder).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, host.router()).await.unwrap() });
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { address, client, task }
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let path = path.strip_prefix(&format!("http://{}", self.address)).unwrap_or(path);
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.into_body().collect().await.unwrap().to_bytes() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    async fn push_blob(&self, name: &str, bytes: &'static [u8]) -> Digest {
        let digest = Digest::of(bytes);
        let answer =
            self.ask("POST", &format!("/v2/{name}/blobs/uploads/?digest={digest}"), &[], bytes).await;
        assert_eq!(answer.status, 201);
        digest
    }

    async fn push_manifest(&self, name: &str, reference: &str, bytes: impl Into<Bytes>) -> Answer {
        let path = format!("/v2/{name}/manifests/{reference}");
        self.ask("PUT", &path, &[("content-type", media_type::MANIFEST)], bytes).await
    }
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["errors"][0]["code"].as_str().unwrap().to_owned()
    }

    fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code().as_str()), (status, code));
    }
}

fn image(config: Digest, layers: &[Digest]) -> Vec<u8> {
    let layer =
        |d: &Digest| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": d, "size": 5});
    let config =
        json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2});
    let layers: Vec<_> = layers.iter().map(layer).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": layers,
    });
    serde_json::to_vec(&manifest).unwrap()
}

/// All files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn the_base_says_which_api_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    for path in ["/v2/", "/v2"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.header("docker-distribution-api-version")), (200, "registry/2.0"));
    }
    server.ask("DELETE", "/v2/", &[], "").await.refused(405, "UNSUPPORTED");
    server.get("/v2/_catalog").await.refused(404, "UNSUPPORTED");
}

#[tokio::test]
async fn a_manifest_is_read_by_tag_and_digest_and_not_sent_twice() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let (config, layer) =
        (server.push_blob("acme/x", b"{}").await, server.push_blob("acme/x", b"layer").await);
    let bytes = image(config, &[layer]);
    let digest = Digest::of(&bytes);
    let pushed = server.push_manifest("acme/x", "v1", bytes.clone()).await;
    assert_eq!((pushed.status, pushed.header("docker-content-digest")), (201, digest.to_string().as_str()));
    let etag = format!("\"{digest}\"");
    for reference in ["v1".to_owned(), digest.to_string()] {
        let path = format!("/v2/acme/x/manifests/{reference}");
        for method in ["GET", "HEAD"] {
            let answer = server.ask(method, &path, &[], "").await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-type"), media_type::MANIFEST);
            assert_eq!(answer.header("content-length"), bytes.len().to_string());
            assert_eq!(answer.header("docker-content-digest"), digest.to_string());
            assert_eq!(answer.header("etag"), etag);
            assert_eq!(answer.body, if method == "GET" { bytes.clone() } else { vec![] });
            let again = server.ask(method, &path, &[("if-none-match", &etag)], "").await;
            assert_eq!((again.status, again.header("etag"), again.body.len()), (304, etag.as_str(), 0));
        }
    }
    server.get("/v2/acme/x/manifests/v2").await.refused(404, "MANIFEST_UNKNOWN");
    server.get("/v2/acme/y/manifests/v1").await.refused(404, "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn a_blob_belongs_to_its_repository_until_it_is_mounted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let digest = server.push_blob("acme/x", b"layer").await;
    let path = format!("/v2/acme/x/blobs/{digest}");
    let whole = server.get(&path).await;
    assert_eq!((whole.status, &whole.body[..], whole.header("content-length")), (200, &b"layer"[..], "5"));
    assert_eq!(whole.header("docker-content-digest"), digest.to_string());
    let head = server.ask("HEAD", &path, &[], "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "5", 0));
    let part = server.ask("GET", &path, &[("range", "bytes=1-2")], "").await;
    assert_eq!((part.status, &part.body[..], part.header("content-range")), (206, &b"ay"[..], "bytes 1-2/5"));
    server.ask("GET", &path, &[("range", "bytes=5-")], "").await.refused(416, "SIZE_INVALID");
    let etag = format!("\"{digest}\"");
    assert_eq!(server.ask("GET", &path, &[("if-none-match", &etag)], "").await.status, 304);

    server.get(&format!("/v2/acme/y/blobs/{digest}")).await.refused(404, "BLOB_UNKNOWN");
    let mount = format!("/v2/acme/y/blobs/uploads/?mount={digest}&from=acme/x");
    let mounted = server.ask("POST", &mount, &[], "").await;
    assert_eq!(
        (mounted.status, mounted.header("location")),
        (201, format!("/v2/acme/y/blobs/{digest}").as_str())
    );
    assert_eq!(server.get(&format!("/v2/acme/y/blobs/{digest}")).await.body, whole.body);
    // What the other repository does not have begins an upload.
    let mount = format!("/v2/acme/y/blobs/uploads/?mount={}&from=acme/x", Digest::of(b"none"));
    assert_eq!(server.ask("POST", &mount, &[], "").await.status, 202);
}

#[tokio::test]
async fn chunks_are_put_together_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let begun = server.ask("POST", "/v2/acme/x/blobs/uploads/", &[], "").await;
    assert_eq!((begun.status, begun.header("range")), (202, "0-0"));
    let location = begun.header("location").to_owned();
    let first = server.ask("PATCH", &location, &[("content-range", "0-4")], "hello").await;
    assert_eq!((first.status, first.header("range")), (202, "0-4"));
    let wrong = server.ask("PATCH", &location, &[("content-range", "9-10")], "xx").await;
    wrong.refused(416, "BLOB_UPLOAD_INVALID");
    assert_eq!(wrong.header("range"), "0-4");
    let status = server.get(&location).await;
    assert_eq!((status.status, status.header("range")), (204, "0-4"));
    let digest = Digest::of(b"hello world");
    let end = format!("{location}?digest={}", digest.to_string().replace(':', "%3A"));
    assert_eq!(server.ask("PUT", &end, &[], " world").await.status, 201);
    assert_eq!(server.get(&format!("/v2/acme/x/blobs/{digest}")).await.body, "hello world");
    server.get(&location).await.refused(404, "BLOB_UPLOAD_UNKNOWN");

    let begun = server.ask("POST", "/v2/acme/x/blobs/uploads/", &[], "").await;
    let location = begun.header("location");
    assert_eq!(server.ask("DELETE", location, &[], "").await.status, 204);
    server.get(location).await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(files(&folder.path().join("temporary")), [] as [PathBuf; 0]);
}

/// T71, from the other side.
#[tokio::test]
async fn wrong_content_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let digest = Digest::of(b"right");
    let whole = format!("/v2/acme/x/blobs/uploads/?digest={digest}");
    server.ask("POST", &whole, &[], "wrong").await.refused(400, "DIGEST_INVALID");
    let begun = server.ask("POST", "/v2/acme/x/blobs/uploads/", &[], "").await;
    let end = format!("{}?digest={digest}", begun.header("location"));
    server.ask("PUT", &end, &[], "wrong").await.refused(400, "DIGEST_INVALID");
    server.ask("PUT", &end, &[], "right").await.refused(404, "BLOB_UPLOAD_UNKNOWN");
    server
        .ask("POST", "/v2/acme/x/blobs/uploads/?digest=sha256:../x", &[], "")
        .await
        .refused(400, "DIGEST_INVALID");
    server
        .push_manifest("acme/x", &digest.to_string(), image(digest, &[]))
        .await
        .refused(400, "DIGEST_INVALID");
    assert_eq!(files(folder.path()), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn a_manifest_needs_its_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let (config, other) =
        (server.push_blob("acme/x", b"{}").await, server.push_blob("acme/y", b"layer").await);
    server.push_manifest("acme/x", "v1", image(config, &[other])).await.refused(400, "MANIFEST_BLOB_UNKNOWN");
    server.push_manifest("acme/x", "v1", "{}").await.refused(400, "MANIFEST_INVALID");
    server.get("/v2/acme/x/manifests/v1").await.refused(404, "MANIFEST_UNKNOWN");
    let bytes = image(config, &[]);
    let child = json!({"mediaType": media_type::MANIFEST, "digest": Digest::of(&bytes), "size": bytes.len()});
    let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [child]}).to_string();
    let as_index = [("content-type", media_type::INDEX)];
    let put = || server.ask("PUT", "/v2/acme/x/manifests/all", &as_index, index.clone());
    put().await.refused(400, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(server.push_manifest("acme/x", &Digest::of(&bytes).to_string(), bytes).await.status, 201);
    assert_eq!(put().await.status, 201);
    assert_eq!(server.get("/v2/acme/x/manifests/all").await.header("content-type"), media_type::INDEX);
}

/// T43.
#[tokio::test]
async fn a_manifest_of_4_mib_is_the_largest() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let config = server.push_blob("acme/x", b"{}").await;
    let mut bytes = image(config, &[]);
    bytes.resize(push::MAX_MANIFEST, b' ');
    assert_eq!(server.push_manifest("acme/x", "v1", bytes.clone()).await.status, 201);
    bytes.push(b' ');
    server.push_manifest("acme/x", "v2", bytes).await.refused(413, "SIZE_INVALID");
}

/// T60.
#[tokio::test]
async fn names_that_are_paths_are_refused_before_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let config = server.push_blob("acme/x", b"{}").await;
    let before = files(folder.path());
    for tag in ["../x", "%2e%2e%2fx", "..", ".x", "x%00", "a/../../x"] {
        let answer = server.push_manifest("acme/x", tag, image(config, &[])).await;
        assert!(matches!(answer.status, 400 | 404), "{tag}: {}", answer.status);
    }
    for name in ["../x", "acme/../x", "acme/_tags", ".", "%2e%2e", "Acme"] {
        let answer = server.ask("POST", &format!("/v2/{name}/blobs/uploads/"), &[], "").await;
        assert_eq!(answer.status, 400, "{name}");
    }
    assert_eq!(files(folder.path()), before);
}

#[tokio::test]
async fn tags_are_listed_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let config = server.push_blob("acme/x", b"{}").await;
    for tag in ["c", "a", "b"] {
        server.push_manifest("acme/x", tag, image(config, &[])).await;
    }
    let list = |answer: Answer| serde_json::from_slice::<Value>(&answer.body).unwrap()["tags"].clone();
    assert_eq!(list(server.get("/v2/acme/x/tags/list").await), json!(["a", "b", "c"]));
    let page = server.get("/v2/acme/x/tags/list?n=2").await;
    assert_eq!(page.header("link"), "</v2/acme/x/tags/list?n=2&last=b>; rel=\"next\"");
    assert_eq!(list(page), json!(["a", "b"]));
    let page = server.get("/v2/acme/x/tags/list?n=2&last=b").await;
    assert_eq!(page.header("link"), "");
    assert_eq!(list(page), json!(["c"]));
    assert_eq!(list(server.get("/v2/acme/x/tags/list?n=0").await), json!([]));
    server.get("/v2/acme/x/tags/list?n=many").await.refused(400, "UNSUPPORTED");
    server.get("/v2/acme/y/tags/list").await.refused(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn tags_and_content_are_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path()).await;
    let (config, layer) =
        (server.push_blob("acme/x", b"{}").await, server.push_blob("acme/x", b"layer").await);
    let (first, second) = (image(config, &[]), image(config, &[layer]));
    for (tag, bytes) in [("v1", &first), ("moved", &first), ("moved", &second)] {
        assert_eq!(server.push_manifest("acme/x", tag, bytes.clone()).await.status, 201);
    }
    drop(server);
    let server = Server::start(folder.path()).await;
    assert_eq!(server.get("/v2/acme/x/manifests/v1").await.body, first);
    assert_eq!(server.get("/v2/acme/x/manifests/moved").await.body, second);
    assert_eq!(server.get(&format!("/v2/acme/x/blobs/{layer}")).await.body, "layer");
}

/// An OCI layout with one image of one layer, tagged `tag`; returns the digests of the manifest and the layer. The layer
/// is compressed: skopeo would compress it on the way, and change the digests, if it were not.
fn layout(folder: &Path, content: &[u8]) -> (Digest, Digest) {
    std::fs::create_dir_all(folder).unwrap();
    let plain = folder.join("layer");
    std::fs::write(&plain, content).unwrap();
    let gzip = std::process::Command::new("gzip").arg("-nc").arg(&plain).output().unwrap();
    assert!(gzip.status.success());
    std::fs::remove_file(plain).unwrap();
    let layer = gzip.stdout;
    let layer_digest = Digest::of(&layer);
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let store = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({"digest": digest, "size": bytes.len()})
    };
    let typed = |mut descriptor: Value, media_type: &str| {
        descriptor["mediaType"] = media_type.into();
        descriptor
    };
    let diff = Digest::of(content);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff]},
    });
    let config = typed(store(config.to_string().as_bytes()), "application/vnd.oci.image.config.v1+json");
    let layer = typed(store(&layer), "application/vnd.oci.image.layer.v1.tar+gzip");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": [layer],
    });
    let mut manifest = typed(store(manifest.to_string().as_bytes()), media_type::MANIFEST);
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "tag"});
    let digest = manifest["digest"].as_str().unwrap().parse().unwrap();
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    (digest, layer_digest)
}

async fn skopeo(arguments: &[&str]) -> String {
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy").args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let limit = std::time::Duration::from_secs(60);
    let output = tokio::time::timeout(limit, command.output()).await.unwrap().expect("skopeo is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_pushes_and_pulls_the_same_digests() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("registry")).await;
    let (from, back) = (folder.path().join("from"), folder.path().join("back"));
    let content: Vec<u8> =
        (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let (digest, layer) = layout(&from, &content);
    let here = format!("docker://{}/acme/x", server.address);
    let source = format!("oci:{}:tag", from.display());
    skopeo(&["copy", "--dest-tls-verify=false", &source, &format!("{here}:v1")]).await;
    skopeo(&["copy", "--dest-tls-verify=false", &source, &format!("{here}:again")]).await;
    assert_eq!(
        server.ask("HEAD", "/v2/acme/x/manifests/v1", &[], "").await.header("docker-content-digest"),
        digest.to_string()
    );
    let other = format!("docker://{}/acme/deep/er/y:v1", server.address);
    skopeo(&["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &format!("{here}:v1"), &other])
        .await;
    let target = format!("oci:{}:tag", back.display());
    skopeo(&["copy", "--src-tls-verify=false", &other, &target]).await;
    let index: Value = serde_json::from_slice(&std::fs::read(back.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest.to_string());
    assert_eq!(Digest::of(&std::fs::read(back.join("blobs/sha256").join(layer.hex())).unwrap()), layer);
    let tags: Value =
        serde_json::from_str(&skopeo(&["list-tags", "--tls-verify=false", &here]).await).unwrap();
    assert_eq!(tags["Tags"], json!(["again", "v1"]));
    assert_eq!(files(&folder.path().join("registry/temporary")), [] as [PathBuf; 0]);
}
