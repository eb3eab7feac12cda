//! Places in realistic files, and what must not be touched in them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// The images as they are written, or why not, by line.
fn images(kind: Kind, text: &str) -> Vec<(usize, Result<String, Opaque>)> {
    let items = kind.images(text).unwrap();
    let told = items.iter().map(|item| match &item.place {
        Place::At { span, .. } => {
            assert_eq!(&text[span.clone()], item.text, "the bytes are the image");
            (item.line, Ok(item.text.clone()))
        }
        Place::Opaque(why) => (item.line, Err(why.clone())),
    });
    told.collect()
}

fn good(kind: Kind, text: &str) -> Vec<String> {
    let found = images(kind, text).into_iter();
    found.map(|(line, image)| image.unwrap_or_else(|why| panic!("{line}: {why}"))).collect()
}

/// The text with every image locked to the digest of its tag.
fn lock_all(kind: Kind, text: &str) -> String {
    let items = kind.images(text).unwrap();
    let edits: Vec<_> = items
        .iter()
        .filter_map(|item| {
            let Place::At { span, reference } = &item.place else { return None };
            let asked = to_verify(reference);
            let meant = asked.digest.unwrap_or_else(|| digest(item.text.split('@').next().unwrap()));
            Some((span.clone(), locked(&item.text, reference, &meant)))
        })
        .collect();
    apply(text, &edits)
}

/// Locking is locked: the second time nothing changes. Without the digests, the text is the one before.
fn is_stable(kind: Kind, text: &str) -> String {
    let once = lock_all(kind, text);
    assert_eq!(lock_all(kind, &once), once);
    let mut bare = once.clone();
    for item in kind.images(&once).unwrap() {
        if let Some(at) = item.text.find("@sha256:").filter(|_| item.span().is_some()) {
            bare = bare.replace(&item.text[at..], "");
        }
    }
    assert_eq!(bare, text);
    once
}

const DOCKERFILE: &str = r#"# syntax=docker/dockerfile:1
# The base of both. FROM nothing:1
ARG BASE=registry.example.com/acme/base:v1
ARG GO_VERSION=1.22

FROM --platform=$BUILDPLATFORM registry.example.com/acme/golang:1.22 AS Build   
WORKDIR /src
COPY --from=registry.example.com/acme/tools:v3 /bin/tool /bin/
RUN --mount=type=bind,from=registry.example.com/acme/cache:v1,target=/cache \
    # a comment in between: FROM x:1
    make FROM=y:1

from	${BASE} as base
COPY --from=build --chown=1:1 /src/out /out
COPY --from=0 /src/other /other
RUN <<EOF cat <<-"END"
FROM inside:1
EOF
	FROM inside:2
	END
FROM scratch
COPY --from=base / /
FROM \
  registry.example.com/acme/last:v1
FROM base AS final
"#;

#[test]
fn a_dockerfile_names_bases_and_what_is_copied_from() {
    assert_eq!(
        images(Kind::Dockerfile, DOCKERFILE),
        [
            (1, "docker/dockerfile:1"),
            (3, "registry.example.com/acme/base:v1"),
            (6, "registry.example.com/acme/golang:1.22"),
            (8, "registry.example.com/acme/tools:v3"),
            (9, "registry.example.com/acme/cache:v1"),
            (23, "registry.example.com/acme/last:v1"),
        ]
        .map(|(line, image)| (line, Ok(image.to_owned())))
    );
    let locked = is_stable(Kind::Dockerfile, DOCKERFILE);
    let base = digest("registry.example.com/acme/base:v1");
    let argument = format!("ARG BASE=registry.example.com/acme/base:v1@{base}\nARG GO_VERSION=1.22\n");
    assert!(locked.contains(&argument), "{locked}");
    is_stable(Kind::Dockerfile, &DOCKERFILE.replace('\n', "\r\n"));
    is_stable(Kind::Dockerfile, &format!("\u{feff}{DOCKERFILE}"));
}

#[test]
fn what_a_dockerfile_leaves_open_is_named_and_never_guessed() {
    let why = |text: &str| images(Kind::Dockerfile, text).pop().unwrap();
    for text in ["FROM a:$V", "FROM ${A}", "FROM a:${V:-1}", "ARG A\nFROM $B", "FROM a\nCOPY --from=$X / /"] {
        assert_eq!(why(text).1, Err(Opaque::Variable), "{text}");
    }
    let argument = |name: &str| Err(Opaque::Argument { name: name.to_owned() });
    for text in [
        "ARG A\nFROM $A",
        "ARG A=$B\nFROM $A",
        "ARG A=x:1\nFROM $A\nRUN echo ${A}",
        "ARG A=x:1\nFROM $A\nARG A\n",
        "ARG A=x:1\nARG A=y:1\nFROM $A",
        "ARG A=x\nFROM $A\nFROM $A:1",
    ] {
        let found = images(Kind::Dockerfile, text);
        assert!(found.iter().any(|(_, image)| *image == argument("A")), "{text}: {found:?}");
    }
    assert_eq!(
        good(Kind::Dockerfile, "ARG A=\"x:1\"\nFROM $A\nFROM ${A} AS b\nRUN echo $AB"),
        ["x:1"],
        "twice in one place"
    );
    for text in ["FROM a\\\nb:1", "FROM \"a:1\"", "FROM a'b'", "FROM a\\\n# comment\nb AS c"] {
        assert_eq!(why(text).1, Err(Opaque::Spelling), "{text}");
    }
    // What the builder makes of quotes and escapes is not guessed.
    for flag in [
        "--mount=\"from=evil:1,type=bind\"",
        "--mount=type=bind,\"from=evil:1\"",
        "--mount='type=bind,From=evil:1'",
        "--mount=type=bind,\\\"from=evil:1\\\"",
        "--mount=\"type=bind, from=evil:1\"",
        "--mou\"nt\"=from=evil:1",
        "--m\\ount=from=evil:1",
        "--mount=type=bind,fro\\m=evil:1",
        "--network=\"a b\" --mount=from=evil:1",
        "--mount from=evil:1",
    ] {
        for run in ["RUN", "ONBUILD run"] {
            let found = images(Kind::Dockerfile, &format!("FROM a\n{run} {flag} make\n"));
            assert_eq!(found[1..], [(2, Err(Opaque::Spelling))], "{flag}");
        }
    }
    for flag in ["--from=\"b:1\"", "--fr'om'=b:1", "--f\\rom=b:1", "--from b:1"] {
        assert_eq!(why(&format!("FROM a\nCOPY {flag} / /")), (2, Err(Opaque::Spelling)), "{flag}");
    }
    assert_eq!(good(Kind::Dockerfile, "FROM a\nCOPY --chown=\"1:1\" / /\nRUN --network='none' x"), ["a"]);
    assert!(matches!(why("FROM Up/Case:1").1, Err(Opaque::Reference(_))));
    for (text, line) in [("FROM", 1), ("\nFROM a b", 2), ("FROM a as", 1), ("FROM a\nRUN <<X\nFROM b\n", 2)] {
        assert_eq!(Kind::Dockerfile.images(text).unwrap_err().line, line, "{text}");
    }
}

/// What only looks like a continuation, an escape, a here-document or a stage.
#[test]
fn a_dockerfile_is_read_as_buildkit_reads_it() {
    for (text, expected) in [
        ("# escape=`\nFROM `\na:1\nRUN dir C:\\\nFROM b:1", vec!["a:1", "b:1"]),
        ("# Syntax=x\n#check = y\n# ESCAPE = `\nFROM `\na:1", vec!["x", "a:1"]),
        // The first comment that is no directive is the last line that may be one.
        ("# maintainer = me\n# escape=`\nFROM a:1\nRUN x `\nFROM b:1", vec!["a:1", "b:1"]),
        ("# escape=\n# escape=`\nFROM a:1\nRUN x `\nFROM b:1", vec!["a:1", "b:1"]),
        ("FROM a\nRUN --mount=type=bind,From=b:1,target=/x --mount=FROM=c:1 x", vec!["a", "b:1", "c:1"]),
        ("FROM a:1\nRUN echo \\\\\nFROM b:1", vec!["a:1", "b:1"]),
        ("FROM a:1\nRUN x \\\n\n\nFROM b:1\nFROM c:1", vec!["a:1", "c:1"]),
        ("FROM a:1\nRUN echo \"x <<E\"\nFROM b:1\nRUN cat <<<x\nFROM c:1", vec!["a:1", "b:1", "c:1"]),
        ("FROM a:1\nRUN 3<<'E O'\nFROM x\nE O\nFROM b:1", vec!["a:1", "b:1"]),
        ("FROM b AS b\nFROM B\nONBUILD COPY --from=c:1 / /\nFROM d", vec!["b", "c:1", "d"]),
        ("FROM a:1\nENV FROM b:1\nLABEL x=\"\\\nFROM c:1\"", vec!["a:1"]),
        ("", vec![]),
    ] {
        assert_eq!(good(Kind::Dockerfile, text), expected, "{text}");
    }
}

/// BuildKit fetches and runs what `syntax` names before it reads anything else of the file.
#[test]
fn the_syntax_of_a_dockerfile_is_an_image() {
    for (text, expected) in [
        ("# syntax=docker/dockerfile:1.7-labs\nFROM a:1", vec!["docker/dockerfile:1.7-labs", "a:1"]),
        ("#SYNTAX = r.io/f:1 \t\nFROM a:1", vec!["r.io/f:1", "a:1"]),
        // Only the first word is the image; the rest goes to it.
        ("# syntax=r.io/f:1 --flag x:2\nFROM a:1", vec!["r.io/f:1", "a:1"]),
        ("# escape=`\n# check=skip=all\n# syntax=r.io/f:1\nFROM a:1", vec!["r.io/f:1", "a:1"]),
        ("#!/usr/bin/env builder\n# syntax=r.io/f:1\nFROM a:1", vec!["r.io/f:1", "a:1"]),
        ("// syntax=r.io/f:1\n", vec!["r.io/f:1"]),
        ("#!/bin/x\n//syntax = r.io/f:1\n", vec!["r.io/f:1"]),
        // Comments, for BuildKit too.
        ("# about\n# syntax=r.io/f:1\nFROM a:1", vec!["a:1"]),
        ("\n# syntax=r.io/f:1\nFROM a:1", vec!["a:1"]),
        ("FROM a:1\n# syntax=r.io/f:1\n", vec!["a:1"]),
        ("# other=1\n# syntax=r.io/f:1\nFROM a:1", vec!["a:1"]),
    ] {
        assert_eq!(good(Kind::Dockerfile, text), expected, "{text}");
        is_stable(Kind::Dockerfile, text);
        is_stable(Kind::Dockerfile, &format!("\u{feff}{}", text.replace('\n', "\r\n")));
    }
    let why = |text: &str| images(Kind::Dockerfile, text).swap_remove(0);
    assert_eq!(why("# syntax=$IMAGE\nFROM a"), (1, Err(Opaque::Variable)));
    assert!(matches!(why("# check=x\n# syntax=Up/Case:1\nFROM a"), (2, Err(Opaque::Reference(_)))));
    // Another form in which BuildKit looks for it.
    for text in ["{\"syntax\": \"r.io/f:1\"}", "\u{feff} {\"syntax\": \"r.io/f:1\"}\n", "#!/x\n{\n}"] {
        let line = 1 + usize::from(text.starts_with("#!"));
        assert_eq!(Kind::Dockerfile.images(text).unwrap_err().line, line, "{text}");
    }
}

const COMPOSE: &str = r#"# images of the shop
x-base: &base
  image: &shared registry.example.com/acme/base:v1 # stays
  restart: always

services:
  web:
    <<: *base
    ports: ["80:80"]
  db:
    image: "registry.example.com/acme/db:v2"   # the database
    labels: {image: 'registry.example.com/acme/label:v1'}
  same:
    image: *shared
  built:
    build: .
    image: registry.example.com/acme/out:dev
    pull_policy: build
  never:
    pull_policy: "never"
    image: registry.example.com/acme/out:dev
    build: {context: .}
  pulled:
    build: .
    image: registry.example.com/acme/pulled:v1
  always:
    image: registry.example.com/acme/always:v1
    pull_policy: always
    build: .
  flow: {image: registry.example.com/acme/flow:v3, command: [echo, "image: x:1"]}
  "quoted": {"image": "registry.example.com/acme/json:v1"}
  text:
    image: registry.example.com/acme/text:v1
    command: |
      image: not:this
    environment:
      FROM: nothing:1
"#;

#[test]
fn a_compose_file_names_the_images_of_its_services() {
    let expected =
        ["base:v1", "db:v2", "label:v1", "pulled:v1", "always:v1", "flow:v3", "json:v1", "text:v1"]
            .map(|image| format!("registry.example.com/acme/{image}"));
    assert_eq!(good(Kind::Yaml, COMPOSE), expected);
    let locked = is_stable(Kind::Yaml, COMPOSE);
    let base = digest("registry.example.com/acme/base:v1");
    let line = format!("image: &shared registry.example.com/acme/base:v1@{base} # stays\n");
    assert!(locked.contains(&line), "{locked}");
    is_stable(Kind::Yaml, &COMPOSE.replace('\n', "\r\n"));
    is_stable(Kind::Yaml, &COMPOSE.replace("# stays", "# für ‹immer› 🎉").replace("shop", "größte"));
    is_stable(Kind::Yaml, &format!("\u{feff}{COMPOSE}"));
}

const BUILDS: &str = r#"x-contexts: &contexts
  named: docker-image://r.io/acme/named:v1
x-image: &volume {type: image, target: /v}
services:
  web:
    build:
      context: .
      additional_contexts:
        base: docker-image://r.io/acme/base:v1
        "tools": 'docker-image://r.io/acme/tools:v2'
        src: ./src
        other: service:db
        home: ${HOME}/src
        rest: https://example.com/$X.git
        here: ./$X
  db:
    build:
      context: .
      additional_contexts:
        - base=docker-image://r.io/acme/list:v1
        - "src=../src"
    volumes:
      - type: image
        source: r.io/acme/data:v1
        target: /data
      - {target: /flow, source: r.io/acme/flow:v1, type: image, image: {subpath: a}}
      - <<: *volume
        source: r.io/acme/merged:v1
      - {type: bind, source: ./here, target: /b}
      - {type: volume, source: name, target: /c}
      - data:/d
  app:
    build: {context: ., additional_contexts: *contexts}
"#;

/// T91: compose fetches more than the images of its services.
#[test]
fn a_compose_file_names_the_images_of_builds_and_volumes() {
    // That home is a folder is a guess.
    let text = BUILDS.replace("        home: ${HOME}/src\n", "");
    let expected = ["named:v1", "base:v1", "tools:v2", "list:v1", "data:v1", "flow:v1", "merged:v1"]
        .map(|image| format!("r.io/acme/{image}"));
    assert_eq!(good(Kind::Yaml, &text), expected);
    let locked = is_stable(Kind::Yaml, &text);
    let base = digest("r.io/acme/base:v1");
    assert!(locked.contains(&format!("base: docker-image://r.io/acme/base:v1@{base}\n")), "{locked}");
    is_stable(Kind::Yaml, &text.replace('\n', "\r\n"));
    assert!(images(Kind::Yaml, BUILDS).contains(&(13, Err(Opaque::Variable))));
}

/// T91: what of these cannot be locked where it stands is named.
#[test]
fn an_image_in_a_build_or_a_volume_that_cannot_be_checked_is_named() {
    let service = |body: &str| images(Kind::Yaml, &format!("services:\n  a:\n{body}\n"));
    for (body, line, why) in [
        ("    build:\n      dockerfile_inline: FROM ubuntu", 4, Opaque::Inline),
        ("    build:\n      dockerfile_inline: |\n        FROM ubuntu\n        RUN x", 5, Opaque::Inline),
        ("    build: {dockerfile_inline: \"FROM scratch\\nCOPY --from=ubuntu / /\"}", 3, Opaque::Inline),
        ("    build: {dockerfile_inline: FROM}", 3, Opaque::Inline),
        ("    build: {dockerfile_inline: \"${FILE}\"}", 3, Opaque::Variable),
        ("    build: {additional_contexts: {base: \"${BASE}\"}}", 3, Opaque::Variable),
        ("    build: {additional_contexts: [\"base=${BASE}\"]}", 3, Opaque::Variable),
        ("    build: {additional_contexts: {base: \"docker-image://a:${V}\"}}", 3, Opaque::Variable),
        ("    build: {additional_contexts: {base: \"docker-\\x69mage://a:1\"}}", 3, Opaque::Spelling),
        ("    volumes: [{type: image, source: \"$V\"}]", 3, Opaque::Variable),
        ("    volumes: [{type: \"${T}\", source: a}]", 3, Opaque::Variable),
        ("    volumes: [{type: image, target: /x}]", 3, Opaque::Empty),
    ] {
        assert_eq!(service(body), [(line, Err(why))], "{body}");
    }
    for body in [
        "    build:\n      dockerfile_inline: |\n        FROM scratch\n        COPY a$$b /",
        "    build: {dockerfile_inline: ~}",
        "    build: {additional_contexts: {a: ., b: \"${X:-}\"}}",
        "    volumes: [{type: bind, source: /a}]",
    ] {
        let found = service(body);
        assert_eq!(found.len(), usize::from(body.contains("X:-")), "{body}: {found:?}");
    }
    // Nothing of it means anything elsewhere.
    let pod = "apiVersion: v1\nkind: Pod\nspec:\n  x: {type: image, source: a, dockerfile_inline: FROM a, y: 'docker-image://a'}\n";
    assert_eq!(good(Kind::Yaml, pod), [""; 0]);
}

const KUBERNETES: &str = r#"---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  template:
    spec:
      initContainers:
      - image: registry.example.com/acme/init:v1
        name: init
      containers:
      - name: web
        image: registry.example.com/acme/web:v1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
        env:
        - {name: NOTE, value: "image: x:1"}
      volumes:
      - name: data
        image: {reference: registry.example.com/acme/data:v1, pullPolicy: Always}
      - name: block
        rbd: {monitors: [a], image: foo, pool: p}
---
# nothing here
---
apiVersion: batch/v1
kind: CronJob
spec:
  jobTemplate:
    spec:
      template:
        spec:
          containers:
            - name: job
              image: registry.example.com/acme/job
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  data:
    image: not/an/image
- apiVersion: v1
  kind: Pod
  spec: {containers: [{name: a, image: 'registry.example.com/acme/a:v1'}]}
- apiVersion: apiextensions.k8s.io/v1
  kind: CustomResourceDefinition
  spec: {properties: {image: {type: string}}}
"#;

#[test]
fn kubernetes_objects_name_the_images_that_they_run() {
    let found = good(Kind::Yaml, KUBERNETES);
    let names: Vec<&str> =
        found.iter().map(|image| image.strip_prefix("registry.example.com/acme/").unwrap()).collect();
    let web = "web:v1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(names, ["init:v1", web, "data:v1", "job", "a:v1"]);
    let locked = lock_all(Kind::Yaml, KUBERNETES);
    // A digest moves, and a tag that was meant is written.
    let moved = format!("acme/web:v1@{}\n", digest("registry.example.com/acme/web:v1"));
    let latest = format!("acme/job:latest@{}\n", digest("registry.example.com/acme/job"));
    assert!(locked.contains(&moved) && locked.contains(&latest), "{locked}");
    assert_eq!(locked.lines().count(), KUBERNETES.lines().count());
}

/// T91: whatever else calls itself a Secret, in whatever place, names the images that it has.
#[test]
fn only_what_kubernetes_takes_for_it_runs_nothing() {
    let crd = "CustomResourceDefinition";
    let known = [
        ("v1", "ConfigMap"),
        ("v1", "Secret"),
        ("apiextensions.k8s.io/v1", crd),
        ("apiextensions.k8s.io/v1beta1", crd),
    ];
    for (version, kind) in known {
        let own = format!("apiVersion: {version}, kind: {kind}, x: {{image: r.io/a:1}}");
        for text in [
            format!("{{{own}}}"),
            format!("{{apiVersion: v1, kind: List, items: [{{{own}}}, {{{own}}}]}}"),
            // As kubectl sorts it.
            format!("{{apiVersion: v1, items: [{{{own}}}], kind: List}}"),
        ] {
            assert_eq!(good(Kind::Yaml, &text), [""; 0], "{text}");
        }
        for text in [
            format!("{{apiVersion: v1, kind: Pod, spec: {{containers: [{{{own}}}]}}}}"),
            format!("{{apiVersion: v1, kind: Pod, spec: {{{own}}}}}"),
            format!("{{apiVersion: v1, kind: Pod, items: [{{{own}}}]}}"),
            format!("{{apiVersion: evil.io/v1, kind: List, items: [{{{own}}}]}}"),
            format!("{{apiVersion: v1, items: [{{{own}}}], kind: PodList}}"),
            format!("{{apiVersion: v1, kind: List, kind: Pod, items: [{{{own}}}]}}"),
            format!("{{apiVersion: v1, kind: List, items: {{a: {{{own}}}}}}}"),
            format!("{{apiVersion: v1, kind: List, items: [[{{{own}}}]]}}"),
            format!("{{apiVersion: v1, kind: List, others: [{{{own}}}]}}"),
            format!(
                "{{apiVersion: v1, kind: List, items: [{{apiVersion: v1, kind: Pod, items: [{{{own}}}]}}]}}"
            ),
            format!("{{services: {{a: {{{own}}}}}}}"),
            format!("{{{own}, services: {{}}}}"),
            // Which of two is meant is not guessed, nor what a merge brings.
            format!("{{kind: Pod, {own}}}"),
            format!("{{apiVersion: apps/v1, {own}}}"),
            format!("{{{own}, y: &y {{kind: Pod}}, <<: *y}}"),
            format!("{{{own}, <<: {{kind: Pod}}}}"),
        ] {
            assert_eq!(good(Kind::Yaml, &text), ["r.io/a:1"], "{text}");
            is_stable(Kind::Yaml, &text);
        }
        for other in [
            "evil.io/v1",
            "v1beta1",
            "V1",
            "\"\"",
            "apiextensions.k8s.io/v2",
            "apiextensions.k8s.io.evil.io/v1",
        ] {
            let text = format!("{{apiVersion: {other}, kind: {kind}, x: {{image: r.io/a:1}}}}");
            assert_eq!(good(Kind::Yaml, &text), ["r.io/a:1"], "{text}");
            let text = format!("{{apiVersion: v1, kind: List, items: [{text}]}}");
            assert_eq!(good(Kind::Yaml, &text), ["r.io/a:1"], "{text}");
        }
    }
    let mixed = "{apiVersion: v1, kind: Secret, image: r.io/a:1}";
    let text = format!(
        "apiVersion: v1\nitems:\n- {mixed}\n- {{apiVersion: v1, kind: Pod, image: r.io/b:1}}\n- {mixed}\nkind: List\n\
         ---\n{mixed}\n---\napiVersion: v1\nkind: Pod\nspec: {mixed}\n"
    );
    assert_eq!(good(Kind::Yaml, &text), ["r.io/b:1", "r.io/a:1"]);
    is_stable(Kind::Yaml, &text);
    // The whole list, brought to where it runs.
    let text = format!(
        "apiVersion: v1\nkind: List\nitems: &l\n- {mixed}\nitems:\n- {{apiVersion: v1, kind: Pod, spec: {{containers: *l}}}}\n"
    );
    assert_eq!(Kind::Yaml.images(&text).map_err(|unread| unread.line), Err(6));
}

#[test]
fn what_yaml_leaves_open_is_named_and_never_guessed() {
    let compose = |image: &str| {
        let found = images(Kind::Yaml, &format!("services:\n  a:\n    image: {image}\n"));
        assert_eq!(found.len(), 1, "{image}: {found:?}");
        found.into_iter().next().unwrap().1
    };
    for (image, why) in [
        ("acme/app:${TAG}", Opaque::Variable),
        ("acme/app:${TAG:-v1}", Opaque::Variable),
        ("$IMAGE", Opaque::Variable),
        ("|\n      acme/app:v1", Opaque::Spelling),
        (">-\n      acme/app:v1", Opaque::Spelling),
        ("\"acme/\\x61pp:v1\"", Opaque::Spelling),
        ("", Opaque::Empty),
        ("~", Opaque::Empty),
        ("[acme/app:v1]", Opaque::Parts),
        ("{repository: acme/app, tag: v1}", Opaque::Parts),
        ("{{ .Values.image }}", Opaque::Parts),
    ] {
        assert_eq!(compose(image), Err(why), "{image}");
    }
    assert!(matches!(compose("Acme/App:v1"), Err(Opaque::Reference(_))));
    assert!(matches!(compose("acme/app:v1 and more"), Err(Opaque::Reference(_))));
    // Tagged, or with an anchor on a line of its own: found where it stands.
    for image in ["!!str acme/app:v1", "&x acme/app:v1", "&x\n      acme/app:v1", "'acme/app:v1'"] {
        assert_eq!(compose(image), Ok("acme/app:v1".to_owned()), "{image}");
    }
    let shared = "x: &x acme/app:v1\nservices:\n  a: {image: *x, labels: {l: *x}}\n";
    assert_eq!(images(Kind::Yaml, shared)[0].1, Err(Opaque::Shared));
    let shared = "x: &x acme/app:v1\nservices:\n  a: {image: *x}\n  b: {image: *x}\n";
    assert_eq!(images(Kind::Yaml, shared), [(1, Ok("acme/app:v1".to_owned()))]);
    is_stable(Kind::Yaml, shared);
    for (text, line) in [
        ("image: acme/app:v1", 1),
        ("- a\n- b", 1),
        ("words", 1),
        ("services: {}\n---\nreplicas: 1\n", 3),
        ("{{- if .Values.web }}\nservices: {}\n{{- end }}\n", 1),
        ("services:\n  a:\n   image: x\n  - b\n", 4),
        ("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nimages: [{name: a}]\n", 1),
    ] {
        assert_eq!(Kind::Yaml.images(text).map_err(|unread| unread.line), Err(line), "{text}");
    }
    assert_eq!(good(Kind::Yaml, "---\n# only a comment\n---\n"), [""; 0]);
}

/// No image is out of sight because an alias or a merge brings it to where it runs.
#[test]
fn an_image_behind_an_alias_is_locked_at_its_anchor_or_named() {
    // Merged from an extension, from a list of them, from another service, and as a whole.
    let text = "x-a: &a {image: r.io/a:1}\nx-b: &b\n  image: r.io/b:1\nservices:\n  one: {<<: *a}\n  two: {<<: [*a, *b]}\n  \
                three: &three {image: r.io/c:1}\n  four: *three\n";
    assert_eq!(good(Kind::Yaml, text), ["r.io/a:1", "r.io/b:1", "r.io/c:1"]);
    is_stable(Kind::Yaml, text);
    // The key is an alias.
    let text = "x: &k image\nservices:\n  one:\n    *k : r.io/a:1\n";
    assert_eq!(good(Kind::Yaml, text), ["r.io/a:1"]);
    // What is built and not fetched, and merged where it is fetched; however far away.
    let built =
        "services:\n  a: &a\n    build: .\n    image: r.io/a:1\n    pull_policy: build\n  b: &b {<<: *a}\n";
    assert_eq!(good(Kind::Yaml, built), [""; 0]);
    for more in [
        "  c: {<<: *a, pull_policy: always}\n",
        "  c: {pull_policy: missing, <<: [*b]}\n",
        "  c: {<<: *b, build: null}\n",
        "  c: &c {<<: *b}\n  d: {<<: *c, build: }\n",
    ] {
        assert_eq!(good(Kind::Yaml, &format!("{built}{more}")), ["r.io/a:1"], "{more}");
    }
    assert_eq!(good(Kind::Yaml, &format!("{built}  c: {{<<: *b, pull_policy: never}}\n")), [""; 0]);

    // From where nothing runs to where it does.
    let list = |first: &str, second: &str| {
        format!(
            "apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, {first}}}\n- {{apiVersion: v1, kind: Pod, {second}}}\n"
        )
    };
    for first in [
        "kind: ConfigMap, data: &d {image: r.io/a:1}",
        "kind: Secret, data: {x: &d {y: [{image: r.io/a:1}]}}",
        "kind: Pod, spec: {volumes: [{rbd: &d {image: r.io/a:1}}]}",
    ] {
        for second in ["spec: {containers: [{<<: *d}]}", "spec: {containers: [{<<: [*d]}]}", "spec: *d"] {
            let found = Kind::Yaml.images(&list(first, second));
            assert_eq!(found.map_err(|unread| unread.line), Err(5), "{first} {second}");
        }
        assert_eq!(good(Kind::Yaml, &list(first, "spec: {}")), [""; 0], "{first}");
    }
    let whole = "apiVersion: v1\nkind: List\nitems:\n- &c {apiVersion: v1, kind: ConfigMap, data: {image: r.io/a:1}}\n- {<<: *c, kind: Pod}\n";
    assert_eq!(Kind::Yaml.images(whole).map_err(|unread| unread.line), Err(5));
    let scalar = list("kind: ConfigMap, data: {image: &d r.io/a:1}", "spec: {containers: [{image: *d}]}");
    assert_eq!(images(Kind::Yaml, &scalar), [(4, Err(Opaque::Shared))]);
    let scalar = list(
        "kind: Pod, spec: {volumes: [{rbd: {image: &d r.io/a:1}}]}",
        "spec: {containers: [{image: *d}]}",
    );
    assert_eq!(images(Kind::Yaml, &scalar), [(4, Err(Opaque::Shared))]);
    // Nothing of it is an image.
    let labels = list("kind: ConfigMap, data: {image: x, labels: &d {a: b}}", "metadata: {labels: *d}");
    assert_eq!(good(Kind::Yaml, &labels), [""; 0]);
    // The reference of a volume that is merged, or is the alias itself.
    let volume = "apiVersion: v1\nkind: Pod\nspec:\n  a: &r {reference: r.io/a:1}\n  b: {image: {<<: *r}}\n";
    assert_eq!(images(Kind::Yaml, volume), [(5, Err(Opaque::Parts))]);
    assert_eq!(images(Kind::Yaml, &volume.replace("{<<: *r}", "*r")), [(5, Err(Opaque::Parts))]);
}

#[test]
fn a_file_is_known_by_its_name() {
    for (name, kind) in [
        ("Dockerfile", Some(Kind::Dockerfile)),
        ("a/Containerfile", Some(Kind::Dockerfile)),
        ("Dockerfile.dev", Some(Kind::Dockerfile)),
        ("web.dockerfile", Some(Kind::Dockerfile)),
        ("Dockerfile.yaml", Some(Kind::Yaml)),
        ("compose.yml", Some(Kind::Yaml)),
        ("pod.json", Some(Kind::Yaml)),
        ("Makefile", None),
        ("yaml", None),
        ("..", None),
    ] {
        assert_eq!(Kind::of(Path::new(name)), kind, "{name}");
    }
}

#[test]
fn a_locked_image_keeps_what_was_written() {
    let (old, new) = (digest("old"), digest("new"));
    for (text, expected) in [
        ("nginx".to_owned(), format!("nginx:latest@{new}")),
        ("nginx:1.25".to_owned(), format!("nginx:1.25@{new}")),
        (format!("Registry.Example.com/a:v1@{old}"), format!("Registry.Example.com/a:v1@{new}")),
        ("[::1]:5000/a".to_owned(), format!("[::1]:5000/a:latest@{new}")),
        (format!("r.io/a@{old}"), format!("r.io/a@{new}")),
    ] {
        assert_eq!(locked(&text, &text.parse().unwrap(), &new), expected);
    }
    let only = format!("r.io/a@{old}").parse().unwrap();
    assert_eq!(to_verify(&only), only);
    let both: Reference = format!("r.io/a:v1@{old}").parse().unwrap();
    assert_eq!(to_verify(&both).to_string(), "r.io/a:v1");
}

/// What a Dockerfile may have between its images.
fn filler() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("RUN echo FROM x:1".to_owned()),
        Just("# FROM y:1".to_owned()),
        Just(String::new()),
        Just("ENV A=b \\\n  C=d".to_owned()),
        Just("RUN <<E\nFROM z:1\nE".to_owned()),
        "[ -~]{0,30}".prop_map(|text| format!("LABEL x={}", text.replace(['<', '\\', '$'], "_"))),
    ]
}

fn image() -> impl Strategy<Value = String> {
    let parts = ("[a-z]{1,5}(/[a-z0-9]{1,5}){0,2}", "[a-z][a-z0-9.]{0,5}", 0..3usize);
    parts.prop_map(|(name, tag, form)| match form {
        0 => format!("r.io/{name}:{tag}"),
        1 => format!("{name}:{tag}"),
        _ => format!("r.io/{name}:{tag}@{}", digest(&tag)),
    })
}

proptest! {
    /// Only images change, to what they are locked to; the second time nothing does.
    #[test]
    fn only_images_change(parts in prop::collection::vec((filler(), image()), 0..6), windows: bool) {
        let (mut text, mut wanted) = (String::new(), BTreeMap::new());
        for (filler, image) in &parts {
            text += &format!("{filler}\nFROM {image}\n");
            wanted.insert(text.matches('\n').count(), image.clone());
        }
        if windows {
            text = text.replace('\n', "\r\n");
        }
        let items = Kind::Dockerfile.images(&text).unwrap().into_iter();
        prop_assert_eq!(&items.map(|item| (item.line, item.text)).collect::<BTreeMap<_, _>>(), &wanted);
        let once = lock_all(Kind::Dockerfile, &text);
        prop_assert_eq!(&lock_all(Kind::Dockerfile, &once), &once);
        for (number, (before, after)) in text.split('\n').zip(once.split('\n')).enumerate() {
            match wanted.get(&(number + 1)) {
                None => prop_assert_eq!(before, after),
                Some(image) => {
                    let name = image.split('@').next().unwrap();
                    prop_assert!(after.starts_with(&format!("FROM {name}@sha256:")), "{}", after);
                }
            }
        }
    }

    /// T56: whatever a file holds, it is read or refused.
    #[test]
    fn no_file_is_too_odd(text in "(FROM|ARG|image|services|:| |\n|\r|\t|-|[a-z\\\\\"'`$#{}<>&*@|é]){0,60}") {
        for kind in [Kind::Dockerfile, Kind::Yaml] {
            for item in kind.images(&text).unwrap_or_default() {
                if let Place::At { span, .. } = item.place {
                    prop_assert_eq!(&text[span], item.text.as_str());
                }
            }
        }
    }
}
