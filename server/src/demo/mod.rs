//! `plimsolld demo`: the whole flow and five attacks in one process, with throwaway keys.
//!
//! Everything is the real thing: the daemon with its embedded registry, the publish side, the client with its trusted state
//! on disk. Only the attacker, a registry in the middle, is made for the occasion.

mod image;
mod middle;
mod scene;
mod show;

use std::time::Duration;

use plimsoll::{
    keys::Signer,
    publish::{self, PublishError, Server},
};
use plimsoll_core::{policy::Verdict, tuf::Targets};

use scene::{Forgery, Scene};
use show::Show;

/// How long the demo waits for the frozen timestamp to run out. It lives three seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Plays the demo. True if the flow worked and every attack was stopped by the right verdict.
///
/// # Errors
/// If something fails that is no attack: no loopback port, no temporary folder, closed output.
pub async fn run() -> anyhow::Result<bool> {
    let mut show = Show::new();
    show.line(
        "Plimsoll: a registry says what bytes a tag points at; Plimsoll says what its publisher means now.",
    )?;
    let scene = Scene::set().await?;
    show.line(&format!(
        "This demo runs one daemon with an embedded registry at {}, and a client that reaches it through {}.",
        scene.daemon_address(),
        scene.middle.address()
    ))?;
    let right = flow(&scene, &mut show).await? & attacks(&scene, &mut show).await?;
    scene.strike().await;
    end(&mut show, right)?;
    Ok(right)
}

async fn flow(scene: &Scene, show: &mut Show) -> anyhow::Result<bool> {
    show.heading("The flow")?;
    show.step(1, "the team pushes an image")?;
    let image = scene.push("net-monitor", "v1", "net-monitor, version 1").await?;
    show.detail(&format!("acme/net-monitor:v1 is {}", image.digest))?;

    show.step(
        2,
        "the owner makes a trust repository for acme/** and delegates acme/net-monitor to the team's key",
    )?;
    let root = scene.init().await?;
    show.detail(&format!("root metadata: sha256 {}, which clients pin", root.sha256.hex()))?;
    let delegated = scene.delegate().await?;
    show.detail(&format!("role {}, signed by key {}", delegated, scene.team.key_id().short()))?;

    show.step(
        3,
        "the team signs the tag; the daemon puts it into a snapshot and a timestamp, in the registry",
    )?;
    let signed = scene.sign("v1", &image).await?;
    show.detail(&format!("{signed}, in timestamp {}", signed.timestamp))?;

    show.step(4, "a client that pins the root asks: may I run acme/net-monitor:v1?")?;
    scene.pin(&root)?;
    let seen = scene.verify("net-monitor:v1").await?;
    Ok(show.verdict(seen.verdict, Verdict::Verified, &seen.reason)?)
}

async fn attacks(scene: &Scene, show: &mut Show) -> anyhow::Result<bool> {
    show.heading(
        "Five attacks (the daemon keeps running; the attacker owns the registry that the client reaches)",
    )?;
    let mut right = true;
    right &= replay(scene, show).await?;
    right &= freeze(scene, show).await?;
    right &= repoint(scene, show).await?;
    right &= revoke(scene, show).await?;
    right &= out_of_scope(scene, show).await?;
    Ok(right)
}

async fn replay(scene: &Scene, show: &mut Show) -> anyhow::Result<bool> {
    show.step(1, "replay an old timestamp: yesterday's metadata is validly signed, too")?;
    let old = scene.latest_seen().await?;
    scene.wait_for_newer().await?;
    let fresh = scene.verify("net-monitor:v1").await?;
    let mut right = show.outcome(
        fresh.verdict == Verdict::Verified,
        "the client has seen a newer one by itself: the daemon re-signs every second here",
    )?;
    scene.middle.forge(&scene.latest_path(), old);
    let seen = scene.verify("net-monitor:v1").await?;
    right &= show.verdict(seen.verdict, Verdict::Rollback, &seen.reason)?;
    scene.middle.honest();
    Ok(right)
}

async fn freeze(scene: &Scene, show: &mut Show) -> anyhow::Result<bool> {
    show.step(2, "freeze everything: keep showing what is valid now, so that no revocation ever arrives")?;
    scene.middle.forge(&scene.latest_path(), scene.latest_seen().await?);
    let start = tokio::time::Instant::now();
    loop {
        let seen = scene.verify("net-monitor:v1").await?;
        let waited = start.elapsed();
        if seen.verdict == Verdict::Verified && waited < PATIENCE {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        show.detail(&format!(
            "the timestamp lives 3 s here (a day by default); it ran out after {:.1} s",
            waited.as_secs_f32()
        ))?;
        let right = show.verdict(seen.verdict, Verdict::Expired, &seen.reason)?;
        scene.middle.honest();
        return Ok(right);
    }
}

async fn repoint(scene: &Scene, show: &mut Show) -> anyhow::Result<bool> {
    show.step(3, "re-point the tag: push other content as acme/net-monitor:v1")?;
    let evil = scene.push("net-monitor", "v1", "net-monitor, with a back door").await?;
    show.detail(&format!("the registry now says v1 is {}", evil.digest))?;
    let seen = scene.verify("net-monitor:v1").await?;
    let right = show.verdict(seen.verdict, Verdict::Mismatch, &seen.reason)?;
    scene.push("net-monitor", "v1", "net-monitor, version 1").await?;
    Ok(right)
}

async fn revoke(scene: &Scene, show: &mut Show) -> anyhow::Result<bool> {
    show.step(4, "serve a revoked image: the team took it back, the registry still has it under its tag")?;
    let revoked = scene.revoke("v1", "CVE-2026-0001 in the parser").await?;
    show.detail(&format!("revoked in {revoked}"))?;
    let seen = scene.verify("net-monitor:v1").await?;
    Ok(show.verdict(seen.verdict, Verdict::Revoked, &seen.reason)?)
}

async fn out_of_scope(scene: &Scene, show: &mut Show) -> anyhow::Result<bool> {
    show.step(5, "sign outside the namespace: the team's key vouches for acme/payroll:v1")?;
    let payroll = scene.push("payroll", "v1", "not the real payroll").await?;
    let role: Targets = scene.team_role_with("acme/payroll:v1", &payroll).await?;
    let bytes = publish::author::sign(&role, &[&scene.team])?;
    let server: &Server = &scene.server;
    let documents = [(scene::TEAM_ROLE.to_owned(), bytes.clone())].into();
    let answer = server.submit(scene::TRUST, &documents).await;
    let refused = matches!(&answer, Err(PublishError::Refused { .. }));
    let said = match answer {
        Err(error) => error.to_string(),
        Ok(_) => "the daemon took it".to_owned(),
    };
    let mut right = show.outcome(refused, &said)?;
    show.detail("so the attacker steals the daemon's online keys and signs snapshot and timestamp, too")?;
    let forgery = Forgery { role: scene::TEAM_ROLE, version: role.common.version, bytes };
    let role_path = scene.inject(&forgery).await?;
    let seen = scene.verify("payroll:v1").await?;
    right &= show.verdict(seen.verdict, Verdict::Absent, &seen.reason)?;
    right &= show.outcome(
        scene.took_forgery().await? && !scene.middle.fooled(&role_path),
        "the client took the forged snapshot, and still does not ask the team about payroll",
    )?;
    Ok(right)
}

fn end(show: &mut Show, right: bool) -> std::io::Result<()> {
    if !right {
        return show.heading("NOT every step went as it should: see the lines marked ✗");
    }
    show.heading("Every attack was stopped by the right verdict. Next:")?;
    for (command, what) in [
        ("cargo install --locked --path server", "plimsolld on your PATH"),
        ("cargo install --locked --path client", "plimsoll on your PATH"),
        ("plimsolld serve", "a daemon with an embedded registry, on 127.0.0.1:8480"),
        ("plimsoll key generate owner", "your first key; `plimsoll --help` shows the rest"),
        ("README.md", "the same flow by hand, against your own registry"),
    ] {
        show.line(&format!("     {command:<39} {what}"))?;
    }
    Ok(())
}
