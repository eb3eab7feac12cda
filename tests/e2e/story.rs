//! One artifact and its several publishers: the scenarios 0 to 13 of the Notary Project's requirements, as far as they are
//! about signing, told as one story with the real programs.
//!
//! Wabbit Networks builds `net-monitor` and publishes it in its registry; Hub, an aggregator, vouches for it, too; ACME
//! Rockets takes it into its own registry under another name and runs it only if both Wabbit and ACME vouch for it. Each
//! of the three has keys, a trust repository and a daemon of its own. ACME's plant reaches no network: its registry gets
//! what a bundle brings. The steps are one test, since each begins where the one before ended.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]
#![expect(clippy::print_stderr, reason = "whoever reads a failure wants to know how far the story came")]

mod story_cast;

use std::{
    fs,
    process::{Command, Stdio},
};

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    image::Image,
    process::{self, Service},
};
use serde_json::{Value, json};

use story_cast::{Cast, descriptor};

/// Wabbit's image in Wabbit's registry, and what ACME calls it in its own.
const WABBITS: &str = "WABBIT/wabbit-networks/net-monitor";
const VENDORED: &str = "ACME/acme/vendored/net-monitor";
/// The same behind the gap.
const CARRIED: &str = "FAR/acme/vendored/net-monitor";
/// Trust repositories.
const WABBITS_TRUST: &str = "WABBIT/wabbit-networks/trust";
const ACMES_TRUST: &str = "ACME/acme/trust";

/// Whoever buys from Wabbit, and Wabbit's own people.
const CUSTOMER: &str = "[[scope]]\nmatch = \"WABBIT/wabbit-networks/**\"\nrequire = { all = [\"wabbit\"] }\n";

/// ACME's desk for imports takes what Hub certified, too; what production runs, both have signed.
const DESK: &str = r#"
[[scope]]
match = "WABBIT/wabbit-networks/**"
require = { all = ["wabbit", "hub"] }

[[scope]]
match = "ACME/acme/vendored/**"
require = { all = ["wabbit", "acme"] }
map = { wabbit = "wabbit-networks/**" }

[[scope]]
match = "ACME/acme/**"
require = { all = ["acme"] }
"#;

/// ACME's production, and its developers, by a profile.
const NODE: &str = r#"
[[scope]]
match = "ACME/acme/vendored/**"
require = { all = ["wabbit", "acme"] }
map = { wabbit = "wabbit-networks/**" }

[[scope]]
match = "ACME/acme/prod/**"
require = { all = ["acme"] }

[[profile.dev.scope]]
match = "ACME/acme/vendored/**"
require = { any = ["wabbit", "acme"] }
map = { wabbit = "wabbit-networks/**" }

[[profile.dev.scope]]
match = "ACME/acme/**"
require = { all = ["acme"] }
"#;

/// The plant behind the gap asks for the same as production.
const PLANT: &str = r#"
[[scope]]
match = "FAR/acme/vendored/**"
require = { all = ["wabbit", "acme"] }
map = { wabbit = "wabbit-networks/**" }
"#;

/// P1, P3, P4, P5: nothing goes back, what is taken back stops, nobody speaks for another, and no registry is believed.
#[test]
fn the_story_of_an_artifact_with_several_publishers() {
    let mut story = Story::new();
    story.scenario_0_build_publish_consume_enforce_policy_deploy();
    story.scenario_1_local_build_sign_validate();
    story.scenario_2_sign_rename_push_validate_in_dev();
    story.scenario_3_automate_build_sign_push_deploy_verify();
    story.scenario_4_promote_artifacts_within_a_registry();
    story.scenario_5_validate_within_restricted_networks();
    story.scenario_6_multiple_signatures();
    story.scenario_7_repository_compromise();
    story.scenario_8_a_developer_discloses_their_key();
    story.scenario_9_a_crypto_algorithm_is_deprecated();
    story.scenario_10_specifying_a_trusted_key();
    story.scenario_11_revoking_a_signature();
    story.scenario_12_chaining_from_a_trusted_key();
    story.scenario_13_signing_with_public_ci_tooling();
}

struct Story {
    cast: Cast,
    /// `net-monitor:v1` as it was first published.
    first: Digest,
    /// What ACME's trust repository showed then.
    old_acme: (String, Vec<u8>),
    /// What Wabbit's showed before anything was taken back.
    old_wabbit: (String, Vec<u8>),
}

/// How many roots the verdict rests on.
fn vouching(told: &Value) -> usize {
    told["roots"].as_array().unwrap().iter().filter(|root| root["vouches"] == true).count()
}

impl Story {
    fn new() -> Self {
        let cast = Cast::new();
        cast.delegate("wabbit.dev", "wabbit-networks/net-monitor", "net-monitor");
        cast.delegate("acme.desk", "acme/**", "desk");
        cast.delegate("acme.alpha", "acme/dev/alpha/**", "alpha");
        for (who, scopes) in [
            ("wabbit.dev", CUSTOMER),
            ("wabbit.customer", CUSTOMER),
            ("hub.owner", CUSTOMER),
            ("acme.desk", DESK),
            ("acme.alpha", DESK),
            ("acme.node", NODE),
            ("far.plant", PLANT),
        ] {
            cast.policy(who, scopes);
        }
        let nothing = || (String::new(), Vec::new());
        Self { cast, first: Digest::of(b""), old_acme: nothing(), old_wabbit: nothing() }
    }

    /// Hub looks at what Wabbit signed, and vouches for it where it lies.
    fn certify(&self, tag: &str, more: &str) -> process::Run {
        let line =
            format!("promote {WABBITS}:{tag} {WABBITS}:{tag} --trust hub --key owner.key -o json {more}");
        self.cast.run("hub.owner", &line)
    }

    /// ACME takes in what Wabbit and Hub vouch for, and signs it.
    fn import(&self, tag: &str, more: &str) -> process::Run {
        let line =
            format!("promote {WABBITS}:{tag} {VENDORED}:{tag} --trust acme --key desk.key -o json {more}");
        self.cast.run("acme.desk", &line)
    }

    /// 0: Wabbit builds an image with its SBoM and sources, and one index of all three, and publishes what it signed; Hub
    /// certifies; ACME imports under another name, verifies and signs; production runs what both signed, and nothing else.
    fn scenario_0_build_publish_consume_enforce_policy_deploy(&mut self) {
        eprintln!("scenario 0");
        let cast = &self.cast;
        let image = cast.push(&format!("{WABBITS}:v1-image"), "net-monitor v1\n");
        let sbom = cast.push_artifact(WABBITS, "application/spdx+json", "{\"spdxVersion\":\"SPDX-2.3\"}");
        let src = cast.push_artifact(WABBITS, "application/vnd.wabbit.src", "int main() {}");
        self.first = cast.push_index(WABBITS, "v1", &[descriptor(&image), sbom.clone(), src]);

        // Published is not signed: nobody takes it, and nobody can import it.
        cast.verdict("wabbit.customer", &format!("{WABBITS}:v1"), "UNTRUSTED");
        assert_eq!(self.certify("v1", "").code, 22);
        cast.ok("wabbit.dev", &format!("sign {WABBITS}:v1 --key dev.key"));
        let told = cast.verdict("wabbit.customer", &format!("{WABBITS}:v1"), "VERIFIED");
        assert_eq!(told["digest"], self.first.to_string());
        cast.verdict("wabbit.customer", &format!("{WABBITS}:v1-image"), "ABSENT");
        let refused = self.import("v1-image", "").expect_code(10);
        assert_eq!(refused.json()["verdict"], "ABSENT");
        assert!(refused.stderr.contains("nothing was copied"), "{}", refused.stderr);
        assert!(cast.shown(VENDORED, "v1-image").is_none());

        // One signature is not enough for the desk, which wants Hub's, too.
        assert_eq!(self.import("v1", "").expect_code(10).json()["verdict"], "ABSENT");
        let certified = self.certify("v1", "").ok().json();
        assert_eq!((&certified["copied"], &certified["moved_from"]), (&json!(false), &Value::Null));
        assert_eq!(vouching(&cast.verdict("acme.desk", &format!("{WABBITS}:v1"), "VERIFIED")), 2);

        // Nothing is in ACME's registry until it is promoted; then all of it, byte for byte.
        assert!(cast.shown(VENDORED, "v1").is_none());
        let promoted = self.import("v1", "").ok().json();
        assert_eq!(promoted["copied"], true);
        assert_eq!(promoted["source"], cast.at(&format!("{WABBITS}@{}", self.first)));
        assert_eq!(promoted["signed"][0]["entries"].as_array().unwrap().len(), 5, "{promoted}");
        assert_eq!(cast.shown(VENDORED, "v1"), cast.shown(WABBITS, "v1"));
        let told = cast.verdict("acme.node", &format!("{VENDORED}:v1"), "VERIFIED");
        assert_eq!((vouching(&told), &told["digest"]), (2, &json!(self.first)));
        // What is deployed is the image alone; the SBoM is looked at by itself.
        for part in [json!(image.digest()), sbom["digest"].clone()] {
            cast.verdict("acme.node", &format!("{VENDORED}@{}", part.as_str().unwrap()), "VERIFIED");
        }
        // Once more is no fault, and copies nothing.
        let again = self.import("v1", "").ok().json();
        assert_eq!((&again["copied"], &again["signed"][0]["replaces"]), (&json!(false), &Value::Null));
        cast.verdict("acme.node", &format!("{VENDORED}:v1"), "VERIFIED");
        // What ACME does not know at all is no business of production's.
        cast.verdict("acme.node", &format!("{WABBITS}:v1"), "NO_POLICY");
        self.old_acme = cast.shown(ACMES_TRUST, "latest").unwrap();
    }

    /// 1: a developer signs what was built here, and knows it before any registry has it.
    fn scenario_1_local_build_sign_validate(&self) {
        eprintln!("scenario 1");
        let cast = &self.cast;
        let image = Image::busybox("built on a laptop\n");
        let name = format!("{WABBITS}:dev");
        cast.ok("wabbit.dev", &format!("sign {name} --layout {} --key dev.key", image.path().display()));
        let resolved = cast.ok("wabbit.dev", &format!("resolve {name}")).stdout;
        assert_eq!(resolved.trim(), cast.at(&format!("{WABBITS}@{}", image.digest())));
        cast.verdict("wabbit.dev", &name, "NO_SUCH_TAG");
        // A short name is nobody's, least of all the nearest registry's.
        cast.verdict("wabbit.dev", "net-monitor:dev", "NO_POLICY");

        // 2 goes on from here: what was signed is what is pushed.
        cast.push_image(&name, &image);
        cast.verdict("wabbit.dev", &name, "VERIFIED");
    }

    /// 2: it gets another name without being built or changed, and is known by its tag and its digest.
    fn scenario_2_sign_rename_push_validate_in_dev(&self) {
        eprintln!("scenario 2");
        let cast = &self.cast;
        cast.ok("wabbit.dev", &format!("promote {WABBITS}:dev {WABBITS}:1.0 --key dev.key"));
        let told = cast.verdict("wabbit.customer", &format!("{WABBITS}:1.0"), "VERIFIED");
        let digest = told["digest"].as_str().unwrap();
        cast.verdict("wabbit.customer", &format!("{WABBITS}@{digest}"), "VERIFIED");
        assert_eq!(cast.shown(WABBITS, "1.0"), cast.shown(WABBITS, "dev"));
        // A registry holds what a team signed; what its digest is called elsewhere makes nobody its publisher.
        cast.verdict("wabbit.customer", &format!("WABBIT/wabbit-networks/elsewhere@{digest}"), "ABSENT");
    }

    /// 3: a machine made for one build signs image, chart and index in one publish, with a key for that repository alone.
    fn scenario_3_automate_build_sign_push_deploy_verify(&self) {
        eprintln!("scenario 3");
        let (cast, app) = (&self.cast, "WABBIT/wabbit-networks/app");
        cast.delegate("wabbit.ci", "wabbit-networks/app", "app");
        cast.policy("wabbit.build-1", CUSTOMER);
        let image = cast.push(&format!("{app}:1.0-alpine"), "the application\n");
        let chart = cast.push_artifact(app, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "a chart");
        let digest = chart["digest"].as_str().unwrap();
        let (media_type, manifest) = cast.shown(app, digest).unwrap();
        cast.put(app, "1.0-deploy", &media_type, &manifest);
        cast.push_index(app, "1.0", &[descriptor(&image), chart.clone()]);
        let all = format!("{app}:1.0-alpine {app}:1.0-deploy {app}:1.0");
        // Another team's key is good for its own repository.
        cast.refused("wabbit.build-1", &format!("sign {all} --key ../wabbit.dev/dev.key"), 2, "no role");
        cast.ok("wabbit.build-1", &format!("sign {all} --key ../wabbit.ci/ci.key"));
        cast.push(&format!("{app}:debug"), "left there by somebody\n");
        cast.ok("wabbit.customer", &format!("verify {all}"));
        cast.refused("wabbit.customer", &format!("verify {all} {app}:debug"), 10, "3 of 4 are VERIFIED");
    }

    /// 4: from a team's repository to production, with production's key. 4.1: from there to an archive.
    fn scenario_4_promote_artifacts_within_a_registry(&self) {
        eprintln!("scenario 4");
        let cast = &self.cast;
        let (dev, prod) = ("ACME/acme/dev/alpha/web:1abc", "ACME/acme/prod/web:1abc");
        cast.push(dev, "alpha's web\n");
        cast.ok("acme.alpha", &format!("sign {dev} --key alpha.key"));
        // 6.1, too: the team's key is no production key, which is known before anything is copied.
        cast.refused("acme.alpha", &format!("promote {dev} {prod} --key alpha.key"), 2, "no role");
        assert!(cast.shown("ACME/acme/prod/web", "1abc").is_none());
        cast.ok("acme.desk", &format!("promote {dev} {prod} --key desk.key"));
        cast.verdict("acme.node", prod, "VERIFIED");
        cast.verdict("acme.node", dev, "NO_POLICY");

        let archived = "ACME/acme/archive/web:1abc";
        cast.ok("acme.desk", &format!("promote {prod} ACME/acme/archive/web --key desk.key"));
        cast.ok("acme.desk", &format!("unsign {prod} --key desk.key"));
        cast.verdict("acme.desk", archived, "VERIFIED");
        cast.verdict("acme.node", prod, "ABSENT");
    }

    /// 5: image and metadata of both publishers cross an air gap in one bundle, and are verified there without a network.
    fn scenario_5_validate_within_restricted_networks(&self) {
        eprintln!("scenario 5");
        let cast = &self.cast;
        cast.verdict("far.plant", &format!("{CARRIED}:v1"), "UNREACHABLE");
        cast.ok("acme.desk", &format!("bundle export {VENDORED}:v1 --with-images --out v1.tar"));
        let bundle = cast.path("acme.desk", "v1.tar");
        cast.ok("far.plant", &format!("bundle import {} --to {}", bundle.display(), self.far()));
        let told = cast.verdict("far.plant", &format!("{CARRIED}:v1"), "VERIFIED");
        assert_eq!((vouching(&told), &told["digest"]), (2, &json!(self.first)));
    }

    fn far(&self) -> String {
        self.cast.at("FAR/").trim_end_matches('/').to_owned()
    }

    /// 6: several parties' signatures on one artifact, a patched build under the same tag (6.2), and keys of production
    /// (6.1, in scenario 4).
    fn scenario_6_multiple_signatures(&self) {
        eprintln!("scenario 6");
        let cast = &self.cast;
        // Two of three, whoever they are.
        cast.policy(
            "acme.lab",
            "[[scope]]\nmatch = \"WABBIT/wabbit-networks/**\"\n\
             require = { threshold = 2, of = [\"wabbit\", \"hub\", \"acme\"] }\n",
        );
        assert_eq!(vouching(&cast.verdict("acme.lab", &format!("{WABBITS}:v1"), "VERIFIED")), 2);
        cast.verdict("acme.lab", &format!("{WABBITS}:1.0"), "ABSENT");

        // Wabbit's tag moves on; nobody runs the new build until those who must have looked at it say so.
        let patched = cast.push(&format!("{WABBITS}:v1"), "net-monitor v1, patched\n").digest();
        cast.ok("wabbit.dev", &format!("sign {WABBITS}:v1 --key dev.key"));
        cast.verdict("wabbit.customer", &format!("{WABBITS}:v1"), "VERIFIED");
        cast.verdict("acme.node", &format!("{VENDORED}:v1"), "CONFLICT");
        assert_eq!(self.import("v1", "").expect_code(15).json()["verdict"], "CONFLICT");
        // Nobody's word is moved to other bytes by the way.
        let unasked = self.certify("v1", "").expect_code(2);
        assert!(unasked.stderr.contains(&format!("in place of {}", self.first)), "{}", unasked.stderr);
        let certified = self.certify("v1", "--yes").ok().json();
        assert_eq!(certified["signed"][0]["replaces"], self.first.to_string());
        let unasked = self.import("v1", "").expect_code(2);
        assert!(unasked.stderr.contains(&format!("means {}", self.first)), "{}", unasked.stderr);
        assert_eq!(Digest::of(&cast.shown(VENDORED, "v1").unwrap().1), self.first);
        cast.verdict("acme.node", &format!("{VENDORED}:v1"), "CONFLICT");
        let moved = self.import("v1", "--yes").ok().json();
        assert_eq!((&moved["copied"], &moved["moved_from"]), (&json!(true), &json!(self.first)));
        let told = cast.verdict("acme.node", &format!("{VENDORED}:v1"), "VERIFIED");
        assert_eq!((vouching(&told), &told["digest"]), (2, &json!(patched)));
        // Behind the gap time has not passed.
        assert_eq!(
            cast.verdict("far.plant", &format!("{CARRIED}:v1"), "VERIFIED")["digest"],
            json!(self.first)
        );

        // The build that was tested, under a name that never moves.
        let unique = "ACME/acme/prod/net-monitor:v1-202011211000";
        cast.ok("acme.desk", &format!("promote {VENDORED}:v1 {unique} --immutable --key desk.key"));
        assert_eq!(cast.verdict("acme.node", unique, "VERIFIED")["digest"], json!(patched));
    }

    /// 7: whoever may push to ACME's registry puts something else under the tag. 7.1: something that was signed once.
    fn scenario_7_repository_compromise(&self) {
        eprintln!("scenario 7");
        let (cast, v1) = (&self.cast, format!("{VENDORED}:v1"));
        let good = cast.shown(VENDORED, "v1").unwrap();
        let evil = cast.push(&v1, "looks the same, and is not\n").digest();
        let told = cast.verdict("acme.node", &v1, "MISMATCH");
        assert_eq!((&told["presented"], &told["registry"]["drift"]), (&json!(evil), &json!(true)));
        // What is meant is known all the same, and is brought back; what was found is told.
        let resolved = cast.ok("acme.node", &format!("resolve {v1}")).stdout;
        assert!(resolved.trim().ends_with(&Digest::of(&good.1).to_string()), "{resolved}");
        let restored = self.import("v1", "--yes").ok().json();
        assert_eq!(restored["moved_from"], json!(evil));
        assert_eq!(restored["signed"][0]["replaces"], Value::Null);
        assert_eq!(cast.shown(VENDORED, "v1").unwrap(), good);
        cast.verdict("acme.node", &v1, "VERIFIED");

        // 7.1: to what both had signed before, which is still there, and with the signatures of that time.
        let (media_type, old) = cast.shown(VENDORED, &self.first.to_string()).unwrap();
        cast.put(VENDORED, "v1", &media_type, &old);
        cast.verdict("acme.node", &v1, "MISMATCH");
        let newest = cast.shown(ACMES_TRUST, "latest").unwrap();
        cast.put(ACMES_TRUST, "latest", &self.old_acme.0, &self.old_acme.1);
        cast.verdict("acme.node", &v1, "ROLLBACK");
        cast.put(ACMES_TRUST, "latest", &newest.0, &newest.1);
        cast.put(VENDORED, "v1", &good.0, &good.1);
        cast.verdict("acme.node", &v1, "VERIFIED");
    }

    /// 8: a developer's key is out. It is replaced, what the thief signed is found and taken back, and nothing else is.
    fn scenario_8_a_developer_discloses_their_key(&self) {
        eprintln!("scenario 8");
        let (cast, evil) = (&self.cast, format!("{WABBITS}:evil"));
        cast.policy("wabbit.thief", CUSTOMER);
        let steals = format!("sign {evil} --key ../wabbit.dev/dev.key");
        cast.push(&evil, "the thief's\n");
        cast.ok("wabbit.thief", &steals);
        cast.verdict("wabbit.customer", &evil, "VERIFIED");
        let log = cast.ok("wabbit.owner", "log wabbit --key dev").stdout;
        assert!(log.contains("net-monitor:evil"), "{log}");

        self.rotate("--remove-key-id dev --pub ../wabbit.dev/dev2.pub", "dev2", "");
        cast.refused("wabbit.thief", &steals, 2, "no role");
        let reason = "revoke WABBIT/wabbit-networks/net-monitor:evil --reason stolen --key dev2.key";
        cast.ok("wabbit.dev", reason);
        cast.verdict("wabbit.customer", &evil, "REVOKED");
        // Whoever verifies anything else need not know of it.
        cast.verdict("acme.node", &format!("{VENDORED}:v1"), "VERIFIED");
        cast.verdict("wabbit.customer", &format!("{WABBITS}:1.0"), "VERIFIED");
    }

    /// The owner gives the developers' role the new key `name` as well; its names are signed anew if they must be.
    fn rotate(&self, change: &str, name: &str, flags: &str) {
        let key = self.cast.path("wabbit.dev", &format!("{name}.key"));
        if !key.exists() {
            self.cast.ok("wabbit.dev", &format!("key generate {name} {flags}"));
        }
        let keys = format!("--keep-names --yes --key owner.key --key {}", key.display());
        self.cast.ok("wabbit.owner", &format!("delegate rotate targets--net-monitor {change} {keys}"));
    }

    /// 9: a role moves from Ed25519 to ECDSA: both count for a while, and no client and no artifact is touched.
    fn scenario_9_a_crypto_algorithm_is_deprecated(&mut self) {
        eprintln!("scenario 9");
        let cast = &self.cast;
        let everything_verifies = || {
            cast.verdict("acme.node", &format!("{VENDORED}:v1"), "VERIFIED");
            cast.verdict("wabbit.customer", &format!("{WABBITS}:v1"), "VERIFIED");
        };
        self.rotate("--pub ../wabbit.dev/p256.pub", "p256", "--ecdsa");
        everything_verifies();
        for (tag, key) in [("v2", "p256.key"), ("v3", "dev2.key")] {
            cast.push(&format!("{WABBITS}:{tag}"), &format!("net-monitor {tag}\n"));
            cast.ok("wabbit.dev", &format!("sign {WABBITS}:{tag} --key {key}"));
            cast.verdict("wabbit.customer", &format!("{WABBITS}:{tag}"), "VERIFIED");
            everything_verifies();
        }
        self.rotate("--remove-key-id dev2", "p256", "");
        cast.refused("wabbit.dev", &format!("sign {WABBITS}:v3 --key dev2.key"), 2, "no role");
        everything_verifies();
        cast.verdict("wabbit.customer", &format!("{WABBITS}:v3"), "VERIFIED");
        self.old_wabbit = cast.shown(WABBITS_TRUST, "latest").unwrap();
    }

    /// 10: one artifact is trusted with one key alone, which its user knows.
    fn scenario_10_specifying_a_trusted_key(&self) {
        eprintln!("scenario 10");
        let cast = &self.cast;
        for (key, verdict) in [("p256", "VERIFIED"), ("dev2", "POLICY_DENY")] {
            let shown = cast.ok("wabbit.dev", &format!("key show {key}.pub -o json")).json();
            let id = shown["key_id"].as_str().unwrap();
            let role = "targets--net-monitor";
            let pin = format!("pin = {{ wabbit = {{ role = \"{role}\", keys = [\"{id}\"] }} }}\n");
            cast.policy("wabbit.careful", &format!("{CUSTOMER}{pin}"));
            let told = cast.verdict("wabbit.careful", &format!("{WABBITS}:v1"), verdict);
            assert_eq!(told["roots"][0]["status"], "VERIFIED", "the root itself vouches: {}", told["reason"]);
        }
    }

    /// 11: what either publisher takes back stops in production, also where it runs already and behind the gap, and no other
    /// artifact of theirs does.
    fn scenario_11_revoking_a_signature(&self) {
        eprintln!("scenario 11");
        let cast = &self.cast;
        let [v1, v2] = ["v1", "v2"].map(|tag| format!("{VENDORED}:{tag}"));
        self.certify("v2", "").ok();
        self.import("v2", "").ok();
        cast.ok("acme.desk", &format!("bundle export {v1} {v2} --with-images --out both.tar"));
        let both = cast.path("acme.desk", "both.tar");
        let import = |file: &str| {
            let file = cast.path("acme.desk", file);
            cast.run("far.plant", &format!("bundle import {} --to {} -o json", file.display(), self.far()))
        };
        let known = import("both.tar").ok().stdout;
        fs::write(cast.path("acme.desk", "far.json"), known).unwrap();
        for (node, place) in [("acme.node", VENDORED), ("far.plant", CARRIED)] {
            cast.ok(node, &format!("verify {place}:v1 {place}:v2"));
            let running = format!("{place}:v1\n{place}:v2\n");
            fs::write(cast.path(node, "running.txt"), cast.at(&running)).unwrap();
            cast.ok(node, "audit running.txt");
        }

        // By Wabbit.
        cast.ok("wabbit.dev", &format!("revoke {WABBITS}:v1 --reason CVE-2026-0001 --key p256.key"));
        let told = cast.verdict("acme.node", &v1, "REVOKED");
        assert_eq!((&told["revocation"]["root"], told["resolved"].is_null()), (&json!("wabbit"), true));
        cast.verdict("acme.node", &v2, "VERIFIED");
        cast.refused("acme.node", "audit running.txt", 14, "REVOKED");
        assert_eq!(self.import("v1", "--yes").expect_code(14).json()["verdict"], "REVOKED");
        // Behind the gap with the next bundle, which is small, and for good.
        cast.verdict("far.plant", &format!("{CARRIED}:v1"), "VERIFIED");
        cast.ok("acme.desk", &format!("bundle export {v1} {v2} --since far.json --out news.tar"));
        let (news, all) = (cast.path("acme.desk", "news.tar"), fs::metadata(&both).unwrap().len());
        assert!(fs::metadata(&news).unwrap().len() * 10 < all, "{news:?} of {all} bytes");
        import("news.tar").ok();
        let told = cast.verdict("far.plant", &format!("{CARRIED}:v1"), "REVOKED");
        assert_eq!(told["revocation"]["reason"], "CVE-2026-0001");
        cast.verdict("far.plant", &format!("{CARRIED}:v2"), "VERIFIED");
        cast.refused("far.plant", "audit running.txt", 14, "REVOKED");
        import("both.tar").expect_code(21);
        cast.verdict("far.plant", &format!("{CARRIED}:v1"), "REVOKED");

        // By ACME, of what Wabbit goes on vouching for.
        let reason = format!("revoke {v2} --reason unfit --trust acme --key desk.key");
        cast.ok("acme.desk", &reason);
        assert_eq!(cast.verdict("acme.node", &v2, "REVOKED")["revocation"]["root"], "acme");
        cast.verdict("wabbit.customer", &format!("{WABBITS}:v2"), "VERIFIED");
        // It does not come back by being imported once more: that is refused before anything is copied.
        self.import("v2", "--yes").expect_code(2);
        // Who asks one publisher alone is told by that one alone.
        cast.verdict("acme.node", "ACME/acme/prod/net-monitor:v1-202011211000", "VERIFIED");
    }

    /// 12: a root is all that anybody pins; the keys of a name are found by delegations from it. Of several roots the policy
    /// says which speak about what, and a profile that it is another matter for developers.
    fn scenario_12_chaining_from_a_trusted_key(&self) {
        eprintln!("scenario 12");
        let cast = &self.cast;
        let told = cast.verdict("wabbit.customer", &format!("{WABBITS}:v3"), "VERIFIED");
        assert_eq!(told["roots"][0]["path"], json!(["targets", "targets--net-monitor"]));
        // Imported by somebody in a hurry: Wabbit vouches for it, and ACME never looked.
        let (media_type, manifest) = {
            let image = Image::busybox("net-monitor v3\n");
            cast.push_image(&format!("{VENDORED}:v3"), &image);
            cast.shown(VENDORED, "v3").unwrap()
        };
        assert_eq!(cast.shown(WABBITS, "v3"), Some((media_type, manifest)));
        cast.verdict("acme.node", &format!("{VENDORED}:v3"), "ABSENT");
        let dev = cast.ok("acme.node", &format!("verify {VENDORED}:v3 --profile dev -o json")).json();
        assert_eq!((vouching(&dev), &dev["verdict"]), (1, &json!("VERIFIED")));
        cast.ok("acme.node", "verify ACME/acme/dev/alpha/web:1abc --profile dev");
        // Neither publisher can say anything about the other's names.
        let foreign = "sign ACME/acme/prod/web:1abc --trust wabbit --key owner.key";
        cast.policy("wabbit.owner", DESK);
        let run = cast.run("wabbit.owner", foreign);
        assert_ne!(run.code, 0, "{}", run.stdout);
        cast.verdict("acme.node", "ACME/acme/prod/web:1abc", "ABSENT");
    }

    /// 13: a public build machine that remembers nothing signs with a key that it never holds, through the registry alone;
    /// and what such a machine can be shown is bounded by a floor.
    fn scenario_13_signing_with_public_ci_tooling(&self) {
        eprintln!("scenario 13");
        let (cast, oss) = (&self.cast, "WABBIT/wabbit-networks/oss:1");
        let keeper = cast.machine("wabbit.keeper").home().to_owned();
        let socket = keeper.join("socket");
        let mut agent = Command::new("ssh-agent");
        agent.args(["-D", "-s", "-a"]).arg(&socket).stderr(Stdio::null());
        let agent = Service::start(&mut agent);
        agent.wait_for(|line| line.contains("SSH_AUTH_SOCK").then_some(()));
        for line in ["ssh-keygen -q -t ed25519 -N '' -C oss-ci -f id", "ssh-add -q id", "rm id"] {
            let mut command = Command::new("sh");
            command.args(["-c", line]).current_dir(&keeper).env("SSH_AUTH_SOCK", &socket);
            process::run(&mut command, b"").ok();
        }
        let public = keeper.join("id.pub");
        let give = format!("delegate add wabbit-networks/oss --label oss --pub {}", public.display());
        cast.ok("wabbit.owner", &format!("{give} --key owner.key --trust wabbit"));

        // Nothing listens where the daemon would be.
        cast.push(oss, "built in public\n");
        cast.policy("wabbit.runner", CUSTOMER);
        let job = cast.machine("wabbit.runner").env("PLIMSOLL_SERVER", "http://127.0.0.1:9");
        let step = format!("sign {oss} --key ssh-agent:oss-ci --via-registry");
        // A job that is somebody's pull request is given no agent, and finds no secret.
        let refused = cast.run_on(&job, &step);
        assert_ne!(refused.code, 0, "{}", refused.stdout);
        cast.verdict("wabbit.customer", oss, "UNTRUSTED");
        let job = job.env("SSH_AUTH_SOCK", socket.to_str().unwrap());
        cast.run_on(&job, &step).ok();
        cast.verdict("wabbit.customer", oss, "VERIFIED");

        // A cold machine can be shown what was true within the timestamp's life; with a floor, nothing older than that.
        cast.ok("wabbit.customer", "trust floor wabbit --out floor.json");
        let floor = cast.path("wabbit.customer", "floor.json");
        let newest = cast.shown(WABBITS_TRUST, "latest").unwrap();
        cast.put(WABBITS_TRUST, "latest", &self.old_wabbit.0, &self.old_wabbit.1);
        let verify = format!("verify {WABBITS}:v1");
        cast.policy("wabbit.cold-1", CUSTOMER);
        cast.ok("wabbit.cold-1", &verify);
        cast.policy("wabbit.cold-2", CUSTOMER);
        let held = format!("{verify} --floor {}", floor.display());
        cast.refused("wabbit.cold-2", &held, 21, "ROLLBACK");
        cast.put(WABBITS_TRUST, "latest", &newest.0, &newest.1);
        cast.refused("wabbit.cold-2", &held, 14, "REVOKED");
    }
}
