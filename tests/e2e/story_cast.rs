//! Who is in the story of `story.rs`, and what they have: three publishers with a `plimsolld` each, the machines (homes) of
//! their people, two registries that anybody reaches, and one in a network that leads nowhere.

use std::{collections::BTreeMap, fs, path::PathBuf};

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    docker_registry::Registry,
    gap::{Gap, GapRegistry},
    http,
    image::Image,
    process::{Cli, Daemon, Run},
    skopeo::Side,
};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The publishers: what policies call their root, their trust repository, and what it may speak about.
const PUBLISHERS: [(&str, &str, &str); 3] = [
    ("wabbit", "WABBIT/wabbit-networks/trust", "wabbit-networks/**"),
    // It certifies what others publish, so it speaks about their names.
    ("hub", "WABBIT/hub/trust", "wabbit-networks/**"),
    ("acme", "ACME/acme/trust", "acme/**"),
];

/// Everybody and everything. In lines and references, `WABBIT/`, `ACME/` and `FAR/` stand for the three registries.
pub(crate) struct Cast {
    folder: TempDir,
    wabbit: Registry,
    acme: Registry,
    gap: Gap,
    far: GapRegistry,
    daemons: BTreeMap<&'static str, Daemon>,
}

impl Cast {
    /// Three registries, three daemons, three trust repositories, each with an owner (`wabbit.owner`, ...).
    pub(crate) fn new() -> Self {
        let gap = Gap::new();
        let far = gap.registry();
        let folder = tempfile::tempdir().unwrap();
        let (wabbit, acme) = (Registry::open(), Registry::open());
        let mut cast = Self { folder, wabbit, acme, gap, far, daemons: BTreeMap::new() };
        for (name, trust, scope) in PUBLISHERS {
            let home = cast.folder.path().join(format!("{name}.daemon"));
            fs::create_dir(&home).unwrap();
            let repository = cast.at(trust);
            let config = format!(
                "data = \"data\"\nlisten = \"127.0.0.1:0\"\n[[trust]]\nname = \"{name}\"\nrepository = \"{repository}\"\ninbox = \"1s\"\n"
            );
            cast.daemons.insert(name, Daemon::start(&home, &config));
            let owner = format!("{name}.owner");
            cast.ok(&owner, "key generate owner");
            cast.ok(&owner, &format!("init {trust} --name {name} --scope {scope} --key owner.key"));
        }
        cast
    }

    /// `text` with the addresses of the registries.
    pub(crate) fn at(&self, text: &str) -> String {
        let hosts = [
            ("WABBIT/", self.wabbit.address()),
            ("ACME/", self.acme.address()),
            ("FAR/", self.far.address()),
        ];
        hosts.iter().fold(text.to_owned(), |text, (name, host)| text.replace(name, &format!("{host}/")))
    }

    pub(crate) fn path(&self, who: &str, file: &str) -> PathBuf {
        self.folder.path().join(who).join(file)
    }

    /// The machine `PUBLISHER.PERSON`, made if it is not there; those of `far` reach nothing outside of the gap.
    pub(crate) fn machine(&self, who: &str) -> Cli {
        let home = self.folder.path().join(who);
        if !home.exists() {
            fs::create_dir_all(&home).unwrap();
            fs::write(home.join("passphrase"), "everybody has the same in this story\n").unwrap();
        }
        let cli = Cli::new(&home);
        match who.split_once('.').unwrap().0 {
            "far" => cli.under(&self.gap.enter()),
            publisher => cli.env("PLIMSOLL_SERVER", &self.daemons[publisher].url()),
        }
    }

    /// Runs `plimsoll LINE` on the machine of `who`.
    pub(crate) fn run(&self, who: &str, line: &str) -> Run {
        self.run_on(&self.machine(who), line)
    }

    pub(crate) fn run_on(&self, machine: &Cli, line: &str) -> Run {
        let mut line = self.at(line);
        let opens = line.contains(".key") && line.contains("--key ");
        if opens || line.starts_with("key generate") {
            line.push_str(" --passphrase-file passphrase");
        }
        machine.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    #[track_caller]
    pub(crate) fn ok(&self, who: &str, line: &str) -> Run {
        self.run(who, line).ok()
    }

    /// Runs what must fail with `code` and say `says`, on whichever stream.
    #[track_caller]
    pub(crate) fn refused(&self, who: &str, line: &str, code: i32, says: &str) {
        let run = self.run(who, line).expect_code(code);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains(says), "`{says}` is missing in: {said}");
    }

    /// What `who` is told of `reference`, which must be `verdict`, in the JSON and in the exit code.
    #[track_caller]
    pub(crate) fn verdict(&self, who: &str, reference: &str, verdict: &str) -> Value {
        let run = self.run(who, &format!("verify {reference} -o json"));
        let told = run.json();
        assert_eq!(told["verdict"], verdict, "{who}, {reference}: {}", told["reason"]);
        assert_eq!(told["exit_code"], run.code);
        told
    }

    /// Gives `who` a policy of its own making: `scopes`, over all three roots, whose metadata is where it is published, or
    /// for those of `far` in the registry there.
    pub(crate) fn policy(&self, who: &str, scopes: &str) {
        let mut policy = String::new();
        for (name, trust, _) in PUBLISHERS {
            let root = self.path(&format!("{name}.owner"), &format!("{name}-root.json"));
            let sha256 = Digest::of(&fs::read(&root).unwrap()).hex();
            let place = match trust.split_once('/').unwrap() {
                (_, repository) if who.starts_with("far.") => format!("FAR/{repository}"),
                _ => trust.to_owned(),
            };
            policy.push_str(&format!(
                "[root.{name}]\nfile = \"{}\"\nsha256 = \"{sha256}\"\nrepository = \"{place}\"\n\n",
                root.display()
            ));
        }
        let home = self.machine(who).home().to_owned();
        fs::write(home.join("policy.toml"), self.at(&format!("{policy}{scopes}"))).unwrap();
        self.ok(who, "policy check");
    }

    /// `PUBLISHER.PERSON` makes the key `PERSON`, to which the publisher's owner gives `scope`.
    pub(crate) fn delegate(&self, who: &str, scope: &str, label: &str) {
        let (publisher, person) = who.split_once('.').unwrap();
        self.ok(who, &format!("key generate {person}"));
        let public = self.path(who, &format!("{person}.pub"));
        let line = format!("delegate add {scope} --label {label} --pub {} --key owner.key", public.display());
        self.ok(&format!("{publisher}.owner"), &line);
    }

    /// Pushes a busybox image with `message` to `reference`.
    pub(crate) fn push(&self, reference: &str, message: &str) -> Image {
        let image = Image::busybox(message);
        self.push_image(reference, &image);
        image
    }

    pub(crate) fn push_image(&self, reference: &str, image: &Image) {
        image.push(&self.at(reference), &Side::plain()).ok();
    }

    /// Pushes an artifact of `kind` to `repository` and returns its descriptor.
    pub(crate) fn push_artifact(&self, repository: &str, kind: &str, content: &str) -> Value {
        let config = self.blob(repository, "application/vnd.oci.empty.v1+json", "{}");
        let layer = self.blob(repository, kind, content);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": config, "layers": [layer],
        });
        let bytes = manifest.to_string();
        let digest = Digest::of(bytes.as_bytes());
        self.put(repository, &digest.to_string(), MANIFEST, bytes.as_bytes());
        json!({"mediaType": MANIFEST, "digest": digest, "size": bytes.len()})
    }

    /// Pushes an index of `manifests` to `repository:tag`.
    pub(crate) fn push_index(&self, repository: &str, tag: &str, manifests: &[Value]) -> Digest {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
        self.put(repository, tag, INDEX, index.as_bytes());
        Digest::of(index.as_bytes())
    }

    fn blob(&self, repository: &str, media_type: &str, content: &str) -> Value {
        let digest = Digest::of(content.as_bytes());
        let url = self.url(repository, "blobs/uploads/");
        let place = http::request("POST", &url, &[], b"").unwrap().header("Location").unwrap().to_owned();
        let joint = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{joint}digest={digest}");
        assert_eq!(http::request("PUT", &url, &[], content.as_bytes()).unwrap().status, 201);
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// The manifest that a registry shows as `repository:tag`, if it has it: its media type and bytes.
    pub(crate) fn shown(&self, repository: &str, tag: &str) -> Option<(String, Vec<u8>)> {
        let url = self.url(repository, &format!("manifests/{tag}"));
        let answer = http::request("GET", &url, &[("Accept", &format!("{MANIFEST}, {INDEX}"))], b"").unwrap();
        assert!([200, 404].contains(&answer.status), "{url}: {}", answer.status);
        let media_type = answer.header("Content-Type").unwrap_or_default().to_owned();
        (answer.status == 200).then_some((media_type, answer.body))
    }

    /// Makes `tag` mean this manifest, as whoever may push to `repository` can.
    pub(crate) fn put(&self, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) {
        let url = self.url(repository, &format!("manifests/{tag}"));
        let answer = http::request("PUT", &url, &[("Content-Type", media_type)], manifest).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    fn url(&self, repository: &str, tail: &str) -> String {
        let repository = self.at(repository);
        let (host, name) = repository.split_once('/').unwrap();
        format!("http://{host}/v2/{name}/{tail}")
    }
}

/// The descriptor of an image, for an index.
pub(crate) fn descriptor(image: &Image) -> Value {
    json!({"mediaType": image.media_type(), "digest": image.digest(), "size": image.size()})
}
