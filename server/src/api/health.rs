//! Is all well?

use axum::{extract::State, http::StatusCode, response::Response};

use super::{Api, Phase, plain};
use crate::pipeline::{Engine, Health};

/// `GET /readyz`: 200 if every trust repository is ready, else 503; one line for each either way.
pub(super) async fn readyz(State(api): State<Api>) -> Response {
    let mut text = String::new();
    let mut ready = *api.shared.phase.borrow() == Phase::Serving;
    if !ready {
        text.push_str("the daemon is stopping\n");
    }
    for (name, engine) in api.trusts() {
        let health = engine.as_ref().map(Engine::health);
        ready &= health.as_ref().is_some_and(|health| health.ready);
        text.push_str(&format!("{name}: {}\n", line(health.as_ref())));
    }
    plain(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

/// One line without control characters, whatever a registry's words brought into it.
fn line(health: Option<&Health>) -> String {
    let Some(health) = health else { return "not ready: starting".to_owned() };
    let line = match (&health.alarm, health.detail.as_str()) {
        (Some(alarm), _) => format!("not ready: ALARM: {alarm}"),
        (None, "") => state(health).to_owned(),
        (None, detail) => format!("{}: {detail}", state(health)),
    };
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn state(health: &Health) -> &'static str {
    if health.ready { "ready" } else { "not ready" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_wrong() {
        let health = |ready, alarm: Option<&str>, detail: &str| Health {
            ready,
            alarm: alarm.map(str::to_owned),
            detail: detail.to_owned(),
            timestamp_expires: None,
            published: None,
            registry_clock: None,
        };
        assert_eq!(line(None), "not ready: starting");
        assert_eq!(line(Some(&health(true, None, ""))), "ready");
        assert_eq!(line(Some(&health(true, None, "fresh"))), "ready: fresh");
        assert_eq!(line(Some(&health(false, None, "a\nb"))), "not ready: a b");
        assert_eq!(line(Some(&health(false, Some("clock"), "clock"))), "not ready: ALARM: clock");
    }
}
