//! `lock` and `audit`, with the real programs and Debian's docker-registry.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    docker_registry::Registry,
    process::{Cli, Run},
    world::{IMAGES, Site, World},
};
use serde_json::json;

const FILES: [(&str, &str); 3] = [
    (
        "Dockerfile",
        "# FROM IMAGE:v1\nARG BASE=IMAGE:v1\nFROM --platform=linux/amd64 IMAGE:v2 AS build  \n\
         FROM $BASE\r\nCOPY --from=build / /\nFROM scratch\n",
    ),
    (
        "compose.yaml",
        "services:\n  a:\n    image: \"IMAGE:v1\" # the first\n  b: {image: &b IMAGE:v2, restart: always}\n  c:\n    image: *b\n",
    ),
    (
        "cron.yml",
        "---\napiVersion: batch/v1\nkind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          \
         initContainers:\n          - {name: i, image: 'IMAGE:v1'}\n          containers:\n            - image: IMAGE:v2 \n",
    ),
];

/// A world with `v1` and `v2` signed, and a client with the files.
struct Locking {
    world: World,
    client: Cli,
    _registry: Registry,
}

impl Locking {
    fn new() -> Self {
        let registry = Registry::open();
        let world = World::ready(Site::at(&registry.address()));
        for tag in ["v1", "v2"] {
            world.push(tag, tag);
            world.sign(tag).ok();
        }
        let client = world.client("ci");
        let locking = Self { world, client, _registry: registry };
        for (name, text) in FILES {
            locking.write(name, &locking.named(text));
        }
        locking
    }

    fn image(&self) -> String {
        format!("{}/{IMAGES}", self.world.host())
    }

    fn named(&self, text: &str) -> String {
        text.replace("IMAGE", &self.image())
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.client.home().join(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.client.home().join(name)).unwrap()
    }

    fn texts(&self) -> Vec<String> {
        FILES.iter().map(|(name, _)| self.text(name)).collect()
    }

    /// The files with these digests.
    fn expected(&self, digests: &BTreeMap<&str, Digest>) -> Vec<String> {
        let lock = |text: &str| {
            let lines = text.split_inclusive('\n').map(|line| {
                // A comment is none.
                let tags = digests.iter().filter(|_| !line.starts_with('#'));
                tags.fold(line.to_owned(), |line, (tag, digest)| {
                    line.replace(&format!("IMAGE:{tag}"), &format!("IMAGE:{tag}@{digest}"))
                })
            });
            self.named(&lines.collect::<String>())
        };
        FILES.iter().map(|(_, text)| lock(text)).collect()
    }

    fn lock(&self, more: &[&str]) -> Run {
        let files = FILES.map(|(name, _)| name);
        self.client.run(&[&["lock"], files.as_slice(), more].concat())
    }
}

/// From unlocked to locked, checked, moved and revoked: nothing but the images changes, and all files change or none.
#[test]
fn images_in_files_are_locked_checked_and_moved() {
    let locking = Locking::new();
    let world = &locking.world;
    let digest = |tag: &str| -> Digest {
        let run = locking.client.run(&["resolve", &world.reference(tag)]).ok();
        run.stdout.trim().split('@').nth(1).unwrap().parse().unwrap()
    };
    let before = locking.texts();
    let script = locking.client.home().join("compose.yaml");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o664)).unwrap();

    assert!(locking.lock(&["--check"]).expect_code(12).stdout.contains("unlocked"));
    assert_eq!(locking.texts(), before);
    let first = BTreeMap::from([("v1", digest("v1")), ("v2", digest("v2"))]);
    let run = locking.lock(&[]).ok();
    assert_eq!(run.stdout.matches("locked").count(), 6, "{}", run.stdout);
    assert_eq!(locking.texts(), locking.expected(&first));
    assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o7777, 0o664);
    let left: Vec<_> =
        fs::read_dir(locking.client.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".tmp")), "{left:?}");

    // Locked is locked.
    for more in [&[][..], &["--check"]] {
        assert_eq!(locking.lock(more).ok().stdout.matches("current").count(), 6);
        assert_eq!(locking.texts(), locking.expected(&first));
    }

    // The registry's tag moved without a signature: what is locked is still what is signed, and what is not locked is not.
    world.push("v1", "moved by somebody");
    let run = locking.lock(&["--check"]).ok();
    assert_eq!(run.stdout.matches("current").count(), 6, "{}", run.stdout);
    assert_eq!(run.stderr.matches("warning: the registry's tag v1 points to").count(), 1, "{}", run.stderr);
    locking.write("d.yaml", &locking.named("services:\n  a:\n    image: IMAGE:v1\n"));
    assert!(locking.client.run(&["lock", "d.yaml"]).expect_code(12).stdout.contains("MISMATCH"));

    // The team means something else by v1 now.
    world.push("v1", "better");
    world.sign("v1").ok();
    let run = locking.lock(&["--check", "-o", "json"]).expect_code(12).json();
    let states: Vec<&str> = run["files"][0]["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["moved", "current"]);
    assert_eq!(locking.texts(), locking.expected(&first));
    let second = BTreeMap::from([("v1", digest("v1")), ("v2", digest("v2"))]);
    assert_ne!(first, second);
    locking.lock(&[]).ok();
    assert_eq!(locking.texts(), locking.expected(&second));

    // P3: one that is revoked keeps all of them as they are.
    world.revoke("v2", "leaked").ok();
    world.push("v1", "better still");
    world.sign("v1").ok();
    let run = locking.lock(&[]).expect_code(14);
    assert!(
        run.stdout.contains("REVOKED") && run.stderr.contains("nothing was written"),
        "{}{}",
        run.stdout,
        run.stderr
    );
    assert_eq!(locking.texts(), locking.expected(&second));
}

/// What cannot be checked is named with its line, and no file is written for it.
#[test]
fn what_cannot_be_checked_is_no_success() {
    let locking = Locking::new();
    let before = locking.texts();
    let image = locking.image();
    let secret = format!("apiVersion: v1, kind: Secret, image: '{image}:unsigned'");
    for (name, text, code, words) in [
        ("a.yaml", format!("services:\n  a:\n    image: {image}:${{TAG}}\n"), 2, "a.yaml:3"),
        ("b.yaml", format!("services:\n  a:\n    image: |\n      {image}:v1\n"), 2, "plain word"),
        ("Dockerfile.c", format!("FROM {image}:$TAG\n"), 2, "variable"),
        ("d.yaml", "replicas: 1\n".to_owned(), 2, "neither a compose file"),
        ("e.txt", "FROM x\n".to_owned(), 2, "neither a Dockerfile nor YAML"),
        ("f.yaml", format!("services:\n  a:\n    image: {image}:unsigned\n"), 10, "ABSENT"),
        (
            "h.yaml",
            format!("apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - {{{secret}}}\n"),
            10,
            "ABSENT",
        ),
        ("i.yaml", format!("{{{}}}\n", secret.replace("v1,", "evil.io/v1,")), 10, "ABSENT"),
        ("g.yaml", "services:\n  a:\n    image: nginx\n".to_owned(), 17, "docker.io/library/nginx"),
    ] {
        locking.write(name, &text);
        for more in [&[name][..], &[name, "--check"]] {
            let run = locking.lock(more).expect_code(code);
            assert!(
                format!("{}{}", run.stdout, run.stderr).contains(words),
                "{words}: {}{}",
                run.stdout,
                run.stderr
            );
            assert_eq!((locking.texts(), locking.text(name)), (before.clone(), text.clone()));
        }
    }
    assert!(locking.lock(&["missing.yaml"]).expect_code(2).stderr.contains("missing.yaml"));
    assert_eq!(locking.texts(), before);
}

/// P3: a revocation reaches what runs, in the words of each tool that knows what does.
#[test]
fn what_runs_is_verified_again() {
    let locking = Locking::new();
    let (world, client) = (&locking.world, &locking.client);
    let (v1, v2) = (world.reference("v1"), world.reference("v2"));
    let resolved = |tag: &str| client.run(&["resolve", &world.reference(tag)]).ok().stdout.trim().to_owned();
    let (one, two) = (resolved("v1"), resolved("v2"));
    let pods = |items: &[(&str, &str, &str)]| {
        let pod = |(name, image, id): &(&str, &str, &str)| {
            json!({
                "kind": "Pod", "metadata": {"name": name, "namespace": "shop"},
                "spec": {"containers": [{"name": "c", "image": image}]},
                "status": {"containerStatuses": [{"name": "c", "image": image, "imageID": id, "state": {"running": {}}}]},
            })
        };
        json!({"kind": "List", "items": items.iter().map(pod).collect::<Vec<_>>()}).to_string()
    };
    locking.write(
        "pods.json",
        &pods(&[("a", &v1, &one), ("b", &v1, &one), ("c", &v2, &format!("docker-pullable://{two}"))]),
    );
    locking.write(
        "ps.json",
        &json!({"containers": [{"id": "1", "metadata": {"name": "x"}, "image": {"image": v2}, "imageRef": two,
            "state": "CONTAINER_RUNNING"}]})
        .to_string(),
    );
    locking.write("docker.json", &format!("{{\"ID\":\"1\",\"Image\":\"{v2}\",\"Names\":\"x\"}}\n"));
    locking.write("list", &format!("{two}\n"));
    let files = ["pods.json", "ps.json", "docker.json", "list"];
    for file in files {
        client.run(&["audit", file]).ok();
    }
    let run = client.run(&["audit", "pods.json", "--format", "kubectl"]).ok();
    assert_eq!(run.stdout.lines().count(), 2, "one line for each image: {}", run.stdout);
    assert!(run.stdout.contains("shop/a/c, shop/b/c"), "{}", run.stdout);
    let piped = client.shell(&format!("plimsoll audit < {}", client.home().join("pods.json").display()));
    assert_eq!(piped.ok().stdout, run.stdout);

    world.revoke("v2", "leaked").ok();
    for file in files {
        let run = client.run(&["audit", file]).expect_code(14);
        assert!(run.stdout.contains("REVOKED"), "{file}: {}", run.stdout);
    }
    // A pod of which no status is told yet, or any more, may run what it asks for.
    for status in
        [json!({}), json!({"phase": "Running"}), json!({"phase": "Unknown", "containerStatuses": []})]
    {
        let spec = json!({"containers": [{"name": "c", "image": v1}, {"name": "d", "image": v2}]});
        let pod = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": spec, "status": status});
        locking.write("bare.json", &pod.to_string());
        let run = client.run(&["audit", "bare.json"]).expect_code(14);
        assert!(run.stdout.contains("default/p/c") && run.stdout.contains("default/p/d"), "{}", run.stdout);
    }
    // So is what it mounts.
    let spec = json!({"containers": [{"name": "c", "image": v1}],
        "volumes": [{"name": "data", "image": {"reference": v2}}]});
    let pod = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": spec, "status": {"phase": "Running"}});
    locking.write("mounts.json", &pod.to_string());
    let run = client.run(&["audit", "mounts.json"]).expect_code(14);
    assert!(run.stdout.contains("default/p/volumes/data"), "{}", run.stdout);
    let json = client.run(&["audit", "pods.json", "-o", "json"]).expect_code(14).json();
    let verdicts: Vec<&str> = json["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["verification"]["verdict"].as_str().unwrap())
        .collect();
    assert_eq!(verdicts, ["VERIFIED", "REVOKED"]);

    // The tag moved on: what runs is not what it means now, and is not passed off as it.
    world.push("v1", "better");
    world.sign("v1").ok();
    locking.write("pods.json", &pods(&[("a", &v1, &one)]));
    let run = client.run(&["audit", "pods.json"]).expect_code(12);
    assert!(run.stdout.contains("MISMATCH"), "{}", run.stdout);
    // Unless the policy lets what was signed earlier go on running.
    let policy = client.home().join("policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replace("[[scope]]\n", "[[scope]]\ndigest-refs = \"retained\"\n")).unwrap();
    let run = client.run(&["audit", "pods.json"]).ok();
    assert!(run.stdout.contains("accepts this one still"), "{}", run.stdout);
    // What another scope lets run says nothing of a tag that is not its own.
    let (roots, scope) = text.split_once("[[scope]]\n").unwrap();
    let tags = scope.lines().find(|line| line.starts_with("match")).unwrap();
    let strict = scope.replace(tags, &format!("match = \"{}:v*\"", locking.image()));
    let lax = format!("digest-refs = \"retained\"\n{scope}");
    fs::write(&policy, format!("{roots}[[scope]]\n{strict}\n[[scope]]\n{lax}")).unwrap();
    let run = client.run(&["audit", "pods.json"]).expect_code(12);
    assert!(run.stdout.contains("MISMATCH"), "{}", run.stdout);

    for (text, words) in [
        ("", "nothing in it"),
        ("{\"kind\": \"Node\"}", "kind: `Node`"),
        ("r.io/A\n", "line 1"),
        ("{\"kind\": \"List\", \"items\": [{\"kind\": \"Pod\"}]}", "line 1 column"),
    ] {
        locking.write("odd", text);
        let run = client.run(&["audit", "odd"]).expect_code(2);
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    }
    assert!(client.run(&["audit", "nowhere"]).expect_code(2).stderr.contains("nowhere"));
    assert!(Path::new(&client.home().join("odd")).exists());
}
