//! What the tools document that they write, shortened to what may matter and a little more.

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ID: &str = "sha256:a6bd71f48f6839d9faae1f29d3babef831e76bc213107682c5cc80f0cbb30866";

/// Where something runs, and what: the reference, or `?` and what is said of it.
fn told(listing: &Listing) -> Vec<(&str, String)> {
    let image = |image: &Image| match image {
        Image::Known(reference) => reference.to_string(),
        Image::Unknown { text, .. } => format!("?{text}"),
    };
    listing.running.iter().map(|running| (running.place.as_str(), image(&running.image))).collect()
}

/// The same whether the format is said or found.
fn listed(text: &str, format: Format) -> Listing {
    let text = text.replace("DIGEST", DIGEST).replace("ID64", ID);
    let listing = read(text.as_bytes(), Some(format)).unwrap();
    assert_eq!(read(text.as_bytes(), None).unwrap(), listing);
    listing
}

fn refused(text: &str, format: Option<Format>) -> String {
    crate::verify::chain(&read(text.as_bytes(), format).unwrap_err())
}

#[test]
fn a_list_is_one_reference_a_line() {
    let listing = listed("\u{feff}# what runs\n\nr.io/a:v1\r\n  r.io/b@DIGEST  \nnginx\n", Format::List);
    let expected = [
        ("line 3", "r.io/a:v1".to_owned()),
        ("line 4", format!("r.io/b@{DIGEST}")),
        ("line 5", "docker.io/library/nginx".to_owned()),
    ];
    assert_eq!(told(&listing), expected);
    assert!(refused("r.io/a:v1\nr.io/A\n", None).starts_with("line 2: "));
}

const PODS: &str = r#"{
  "apiVersion": "v1",
  "items": [
    {
      "apiVersion": "v1", "kind": "Pod",
      "metadata": {"name": "web-1", "namespace": "shop", "uid": "x"},
      "spec": {
        "initContainers": [{"name": "init", "image": "r.io/acme/init:v1"}],
        "containers": [
          {"name": "web", "image": "r.io/acme/web:v1", "ports": [{"containerPort": 80}]},
          {"name": "side", "image": "mirror.io/acme/side"},
          {"name": "late", "image": "r.io/acme/late:v1"}
        ]
      },
      "status": {
        "phase": "Running",
        "initContainerStatuses": [{"name": "init", "image": "r.io/acme/init:v1", "imageID": "r.io/acme/init@DIGEST",
          "ready": true, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}],
        "containerStatuses": [
          {"name": "web", "image": "r.io/acme/other-name:v9", "imageID": "docker-pullable://r.io/acme/other-name@DIGEST",
           "ready": true, "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
          {"name": "side", "image": "mirror.io/acme/side:latest", "imageID": "mirror.io/acme/side@DIGEST",
           "ready": true, "restartCount": 0, "state": {"running": {}}},
          {"name": "late", "image": "r.io/acme/late:v1", "imageID": "",
           "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}
        ]
      }
    },
    {
      "kind": "Pod", "metadata": {"name": "built", "namespace": "dev"},
      "spec": {"containers": [{"name": "a", "image": "ID64"}, {"name": "b", "image": "r.io/acme/b@DIGEST"}]},
      "status": {"containerStatuses": [
        {"name": "a", "image": "ID64", "imageID": "ID64", "state": {"running": {}}},
        {"name": "b", "image": "ID64", "imageID": "docker://ID64", "state": {"running": {}}}
      ]}
    },
    {"kind": "Pod", "metadata": {"name": "new", "namespace": "dev"}, "spec": {}, "status": {"phase": "Pending"}}
  ],
  "kind": "List", "metadata": {"resourceVersion": ""}
}"#;

/// By the digest that runs, under the name that was asked for, whatever the node calls it.
#[test]
fn pods_run_what_their_image_id_says() {
    let listing = listed(PODS, Format::Kubectl);
    let expected = [
        ("shop/web-1/web", format!("r.io/acme/web:v1@{DIGEST}")),
        ("shop/web-1/side", format!("mirror.io/acme/side@{DIGEST}")),
        ("shop/web-1/late", "r.io/acme/late:v1".to_owned()),
        ("shop/web-1/init", format!("r.io/acme/init:v1@{DIGEST}")),
        ("dev/built/a", format!("?{ID}")),
        ("dev/built/b", format!("r.io/acme/b@{DIGEST}")),
        ("dev/new", "?".to_owned()),
    ];
    assert_eq!((told(&listing).as_slice(), listing.idle), (expected.as_slice(), 0));
    let pod = r#"{"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "r.io/a:v1"}]},
        "status": {"containerStatuses": [{"name": "c", "image": "r.io/a:v1", "imageID": "r.io/a@DIGEST"}]}}"#;
    assert_eq!(told(&listed(pod, Format::Kubectl)), [("default/p/c", format!("r.io/a:v1@{DIGEST}"))]);
}

/// A container that crashes and starts again is no less dangerous than one that does not.
#[test]
fn a_pod_that_has_not_ended_runs_what_it_fetched() {
    let listing = |phase: &str, id: &str, state: &str| {
        let pod = format!(
            r#"{{"kind": "Pod", "metadata": {{"name": "p"}}, "spec": {{"containers": [{{"name": "c", "image": "r.io/a:v1"}}]}},
            "status": {{"phase": "{phase}", "containerStatuses":
                [{{"name": "c", "image": "r.io/a:v1", "imageID": "{id}", "state": {{"{state}": {{}}}}}}]}}}}"#
        );
        listed(&pod, Format::Kubectl)
    };
    let runs = [("default/p/c", format!("r.io/a:v1@{DIGEST}"))];
    for (phase, state) in [("Running", "waiting"), ("Running", "terminated"), ("Pending", "terminated")] {
        let listing = listing(phase, "r.io/a@DIGEST", state);
        assert_eq!((told(&listing).as_slice(), listing.idle), (runs.as_slice(), 0), "{phase} {state}");
    }
    for (phase, state) in
        [("Running", "waiting"), ("Running", "running"), ("Unknown", "terminated"), ("", "x")]
    {
        let listing = listing(phase, "", state);
        let by_name = [("default/p/c", "r.io/a:v1".to_owned())];
        assert_eq!((told(&listing).as_slice(), listing.idle), (by_name.as_slice(), 0), "{phase} {state}");
    }
    let idle = [("Failed", "r.io/a@DIGEST", "terminated"), ("Succeeded", "r.io/a@DIGEST", "terminated")];
    for (phase, id, state) in idle {
        let listing = listing(phase, id, state);
        assert_eq!((listing.running.len(), listing.idle), (0, 1), "{phase} {state}");
    }
}

/// What the status does not tell yet, or any more, is no reason to leave a container out.
#[test]
fn every_container_of_a_pod_that_may_run_is_judged() {
    let listing = |status: &str| {
        let pod = format!(
            r#"{{"kind": "List", "items": [{{"kind": "Pod", "metadata": {{"name": "p", "namespace": "n"}},
            "spec": {{"containers": [{{"name": "a", "image": "r.io/a:v1"}}, {{"name": "b", "image": "r.io/b@DIGEST"}}, {{"name": "c"}}],
                      "initContainers": [{{"name": "i", "image": "r.io/i:v1"}}],
                      "ephemeralContainers": [{{"name": "e", "image": "r.io/e:v1"}}]}}
            {status}}}]}}"#
        );
        listed(&pod, Format::Kubectl)
    };
    let a = ("n/p/a", "r.io/a:v1".to_owned());
    let others = [
        ("n/p/b", format!("r.io/b@{DIGEST}")),
        ("n/p/c", "?".to_owned()),
        ("n/p/i", "r.io/i:v1".to_owned()),
        ("n/p/e", "r.io/e:v1".to_owned()),
    ];
    let by_spec: Vec<_> = std::iter::once(a).chain(others.clone()).collect();
    for status in [
        "",
        r#", "status": {}"#,
        r#", "status": {"phase": "Running"}"#,
        r#", "status": {"phase": "Unknown", "containerStatuses": []}"#,
        r#", "status": {"phase": "Pending", "initContainerStatuses": []}"#,
        r#", "status": {"phase": "succeeded"}"#,
    ] {
        let listing = listing(status);
        assert_eq!((told(&listing), listing.idle), (by_spec.clone(), 0), "{status}");
    }
    let one = listing(
        r#", "status": {"phase": "Running", "containerStatuses": [{"name": "a", "image": "x", "imageID": "r.io/a@DIGEST",
        "state": {"running": {}}}]}"#,
    );
    let a = ("n/p/a", format!("r.io/a:v1@{DIGEST}"));
    assert_eq!((told(&one), one.idle), (std::iter::once(a).chain(others).collect(), 0));
    for phase in ["Succeeded", "Failed"] {
        let ended = listing(&format!(r#", "status": {{"phase": "{phase}"}}"#));
        assert_eq!((ended.running.len(), ended.idle), (0, 5), "{phase}");
    }
    let bare = r#"{"kind": "Pod", "metadata": {"name": "p"}, "status": {"phase": "Failed"}}"#;
    let bare = listed(bare, Format::Kubectl);
    assert_eq!((bare.running.len(), bare.idle), (0, 1));
}

/// What a pod mounts is an image that was fetched, as what it runs is; no status tells its digest.
#[test]
fn the_images_that_a_pod_mounts_are_judged() {
    let listing = |status: &str| {
        let pod = format!(
            r#"{{"kind": "Pod", "metadata": {{"name": "p", "namespace": "n"}}, "spec": {{
            "containers": [{{"name": "c", "image": "r.io/c:v1"}}],
            "volumes": [{{"name": "data", "image": {{"reference": "r.io/data:v1", "pullPolicy": "Always"}}}},
                        {{"name": "c", "image": {{"reference": "r.io/fixed:v1@DIGEST"}}}},
                        {{"name": "odd", "image": {{}}}},
                        {{"name": "map", "configMap": {{"name": "image"}}}},
                        {{"name": "block", "rbd": {{"image": "foo"}}}}]}}
            {status}}}"#
        );
        listed(&pod, Format::Kubectl)
    };
    let volumes = [
        ("n/p/volumes/data", "r.io/data:v1".to_owned()),
        ("n/p/volumes/c", format!("r.io/fixed:v1@{DIGEST}")),
        ("n/p/volumes/odd", "?".to_owned()),
    ];
    let of = |phase: &str, state: &str| {
        format!(
            r#", "status": {{"phase": "{phase}", "containerStatuses": [{{"name": "c", "image": "r.io/c:v1",
            "imageID": "r.io/c@DIGEST", "state": {{"{state}": {{}}}}}}]}}"#
        )
    };
    let runs = ("n/p/c", format!("r.io/c:v1@{DIGEST}"));
    for (phase, state) in [("Running", "running"), ("Pending", "waiting"), ("Failed", "running")] {
        let listing = listing(&of(phase, state));
        let expected: Vec<_> = std::iter::once(runs.clone()).chain(volumes.clone()).collect();
        assert_eq!((told(&listing), listing.idle), (expected, 0), "{phase} {state}");
    }
    let untold = listing("");
    let expected: Vec<_> = std::iter::once(("n/p/c", "r.io/c:v1".to_owned())).chain(volumes).collect();
    assert_eq!((told(&untold), untold.idle), (expected, 0));
    for status in [of("Succeeded", "terminated"), r#", "status": {"phase": "Failed"}"#.to_owned()] {
        let ended = listing(&status);
        assert_eq!((ended.running.len(), ended.idle), (0, 4), "{status}");
    }
}

#[test]
fn only_what_has_ended_is_left_out_of_containers() {
    for (state, runs) in [("RUNNING", 1), ("CREATED", 1), ("UNKNOWN", 1), ("PAUSED", 1), ("EXITED", 0)] {
        let crictl = format!(
            r#"{{"containers": [{{"id": "1", "metadata": {{"name": "c"}}, "image": {{"image": "r.io/a:v1"}}, "state": "CONTAINER_{state}"}}]}}"#
        );
        let listing = listed(&crictl, Format::Crictl);
        assert_eq!((listing.running.len(), listing.idle), (runs, 1 - runs), "{state}");
    }
    for (state, running, runs) in [
        ("running", true, 1),
        ("paused", true, 1),
        ("restarting", true, 1),
        ("restarting", false, 1),
        ("created", false, 1),
        ("anything", false, 1),
        ("exited", false, 0),
        ("dead", false, 0),
    ] {
        let inspect = format!(
            r#"[{{"Id": "1", "Name": "/c", "State": {{"Status": "{state}", "Running": {running}}}, "Config": {{"Image": "r.io/a:v1"}}}}]"#
        );
        let ps = format!(r#"{{"ID": "1", "Image": "r.io/a:v1", "Names": "c", "State": "{state}"}}"#);
        for text in [inspect, ps] {
            let listing = listed(&text, Format::Docker);
            assert_eq!((listing.running.len(), listing.idle), (runs, 1 - runs), "{text}");
        }
    }
}

const CRICTL_PS: &str = r#"{"containers": [
  {"id": "87d3992f84f74aaa", "podSandboxId": "f", "metadata": {"name": "web", "attempt": 0},
   "image": {"image": "ID64", "annotations": {}, "userSpecifiedImage": "r.io/acme/web:v1"},
   "imageRef": "r.io/acme/web@DIGEST", "state": "CONTAINER_RUNNING", "createdAt": "1700000000000000000",
   "labels": {"io.kubernetes.pod.name": "web-1", "io.kubernetes.pod.namespace": "shop"}},
  {"id": "1234567890abcdef", "metadata": {"name": "bare"}, "image": {"image": "r.io/acme/bare:v2"},
   "imageRef": "ID64", "state": "CONTAINER_RUNNING"},
  {"id": "1234567890abcdef", "metadata": {"name": "id"}, "image": {"image": "ID64"},
   "imageRef": "ID64", "state": "CONTAINER_RUNNING"},
  {"id": "1234567890abcdef", "metadata": {"name": "done"}, "image": {"image": "ID64"},
   "imageRef": "ID64", "state": "CONTAINER_EXITED"}
]}"#;

const CRICTL_IMAGES: &str = r#"{"images": [
  {"id": "ID64", "repoTags": ["r.io/acme/a:v1", "r.io/acme/a:v2", "q.io/acme/a:v1"], "repoDigests": ["r.io/acme/a@DIGEST"],
   "size": "1", "uid": null, "username": "", "spec": null},
  {"id": "ID64", "repoTags": [], "repoDigests": ["r.io/acme/b@DIGEST"], "size": "1"},
  {"id": "ID64", "repoTags": [], "repoDigests": []}
]}"#;

#[test]
fn crictl_tells_containers_and_images() {
    let listing = listed(CRICTL_PS, Format::Crictl);
    let expected = [
        ("shop/web-1/web", format!("r.io/acme/web:v1@{DIGEST}")),
        ("bare 1234567890ab", "r.io/acme/bare:v2".to_owned()),
        ("id 1234567890ab", format!("?{ID}")),
    ];
    assert_eq!((told(&listing).as_slice(), listing.idle), (expected.as_slice(), 1));
    let expected = [
        format!("r.io/acme/a:v1@{DIGEST}"),
        format!("r.io/acme/a:v2@{DIGEST}"),
        "q.io/acme/a:v1".to_owned(),
        format!("r.io/acme/b@{DIGEST}"),
        format!("?{ID}"),
    ];
    let place = "image a6bd71f48f68";
    assert_eq!(told(&listed(CRICTL_IMAGES, Format::Crictl)), expected.map(|image| (place, image)));
}

const DOCKER_PS: &str = r#"{"Command":"\"/bin/sh\"","ID":"87d3992f84f7","Image":"r.io/acme/web:v1","Names":"web","State":"running"}
{"ID":"87d3992f84f8","Image":"a6bd71f48f68","Names":"moved","State":"running"}
{"ID":"87d3992f84f9","Image":"r.io/acme/b@DIGEST","Names":"b"}
{"ID":"87d3992f84fa","Image":"r.io/acme/old:v1","Names":"old","State":"exited"}
"#;

const INSPECT: &str = r#"[
  {"Id": "87d3992f84f7", "Name": "/web", "Image": "ID64", "State": {"Status": "running", "Running": true},
   "Config": {"Image": "r.io/acme/web:v1", "Env": []}},
  {"Id": "87d3992f84f8", "Name": "/other", "Image": "sha256:00", "State": {"Running": true},
   "Config": {"Image": "r.io/acme/other:v1"}, "ImageManifestDescriptor": {"digest": "DIGEST", "size": 1}},
  {"Id": "87d3992f84f9", "Name": "/name", "Image": "sha256:00", "State": {"Running": true}, "Config": {"Image": "nginx"}},
  {"Id": "87d3992f84fa", "Name": "/gone", "Image": "ID64", "State": {"Running": false}, "Config": {"Image": "nginx"}},
  {"Id": "ID64", "RepoTags": ["r.io/acme/web:v1"], "RepoDigests": ["q.io/x@DIGEST", "r.io/acme/web@DIGEST"]}
]"#;

#[test]
fn docker_tells_digests_by_inspect_and_names_by_ps() {
    let listing = listed(DOCKER_PS, Format::Docker);
    let expected = [
        ("web", "r.io/acme/web:v1".to_owned()),
        ("moved", "?a6bd71f48f68".to_owned()),
        ("b", format!("r.io/acme/b@{DIGEST}")),
    ];
    assert_eq!((told(&listing).as_slice(), listing.idle), (expected.as_slice(), 1));
    let listing = listed(INSPECT, Format::Docker);
    let expected = [
        ("web", format!("r.io/acme/web:v1@{DIGEST}")),
        ("other", format!("r.io/acme/other:v1@{DIGEST}")),
        ("name", "docker.io/library/nginx".to_owned()),
    ];
    assert_eq!((told(&listing).as_slice(), listing.idle), (expected.as_slice(), 1));
    let images = r#"[{"Id": "ID64", "RepoTags": ["r.io/a:v1"], "RepoDigests": ["r.io/a@DIGEST"]}, {"Id": "ID64", "RepoTags": []}]"#;
    let place = "image a6bd71f48f68";
    let expected = [(place, format!("r.io/a:v1@{DIGEST}")), (place, format!("?{ID}"))];
    assert_eq!(told(&listed(images, Format::Docker)), expected);
}

/// One image on a machine may have come by several digests: whichever it was, none is left out.
#[test]
fn every_digest_of_a_repository_is_judged() {
    let other = format!("sha256:{}", "1".repeat(64));
    let digests = format!(r#"["r.io/a@DIGEST", "q.io/x@DIGEST", "r.io/a@{other}"]"#);
    let both = [format!("r.io/a:v1@{DIGEST}"), format!("r.io/a:v1@{other}")];
    let image = format!(r#"{{"Id": "ID64", "RepoTags": ["r.io/a:v1"], "RepoDigests": {digests}}}"#);
    for name in ["r.io/a:v1", &format!("r.io/a:v1@{DIGEST}"), "ID64"] {
        let inspect = format!(
            r#"[{{"Id": "1", "Name": "/web", "Image": "ID64", "State": {{"Running": true}}, "Config": {{"Image": "{name}"}}}},
            {image}]"#
        );
        let expected = both.clone().map(|image| ("web", image));
        assert_eq!(told(&listed(&inspect, Format::Docker)), expected, "{name}");
    }
    let place = "image a6bd71f48f68";
    let [one, two] = both;
    let expected = [(place, one), (place, two), (place, format!("q.io/x@{DIGEST}"))];
    assert_eq!(told(&listed(&format!("[{image}]"), Format::Docker)), expected);
    let crictl =
        format!(r#"{{"images": [{{"id": "ID64", "repoTags": ["r.io/a:v1"], "repoDigests": {digests}}}]}}"#);
    assert_eq!(told(&listed(&crictl, Format::Crictl)), expected);
}

/// T56: what is none of these is refused, and where is told.
#[test]
fn an_unknown_shape_is_refused_with_its_place() {
    for (text, format, words) in [
        ("", None, "nothing in it"),
        (" \n", Some(Format::List), "nothing in it"),
        ("{\"a\": 1}", None, "object of a"),
        ("{\"kind\": \"Deployment\"}", None, "kind: `Deployment`"),
        ("{\"kind\": \"List\"}", None, "missing field `items`"),
        (
            "{\"kind\": \"List\", \"items\": [{\"kind\": \"Node\", \"metadata\": {\"name\": \"x\"}}]}",
            None,
            "items[0].kind: `Node`",
        ),
        ("{\"kind\": \"List\", \"items\": [{}]}", None, "missing field `metadata` at line 1"),
        ("{\"containers\": [{}]}", None, "missing field `id` at line 1"),
        ("{}", Some(Format::Crictl), "neither `containers` nor `images`"),
        ("{\"containers\": 1}", None, "line 1 column"),
        ("[{\"Id\": \"x\"}]", None, "[0]: neither a container"),
        ("[1]", None, "line 1 column 2"),
        ("[[\"x\"]]", None, "expected members by name at line 1"),
        ("{\"kind\": \"List\", \"items\": [[\"Pod\", [\"p\"]]]}", None, "expected members by name at line 1"),
        (
            "{\"containers\": [[\"1\", [\"c\"], [\"r.io/a\"], \"\", \"x\"]]}",
            None,
            "expected members by name at line 1",
        ),
        ("{\"ID\": \"x\", \"Image\": \"a\", \"Names\": \"b\"}\nrest", None, "line 2"),
        ("{\"Image\": 1}", None, "line 1"),
        ("{\"kind\": \"List\", ", None, "EOF"),
        ("r.io/a:v1", Some(Format::Kubectl), "not the output of kubectl get pods"),
    ] {
        let error = refused(text, format);
        assert!(error.contains(words), "`{words}` is not in {error}");
    }
    assert!(matches!(read(b"r.io/a\n\xff", None), Err(ListingError::NotText { at: 7 })));
    let endless = vec![b' '; usize::try_from(MAX_INPUT).unwrap() + 1];
    assert!(matches!(read(&endless, None), Err(ListingError::TooLong)));
}
