//! The pictures of a page: inline SVG, with words beside them that say the same.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    html::Html,
    words::{State, span},
};
use crate::pipeline::report::{Point, Report};

/// The timeline's drawing, in units of its own: width and height of the whole, and the edges of the field.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 150.0;
/// The timeline covers at least this many seconds, or two intervals if that is less.
const LEAST: i64 = 600;

/// The mark of the house: Plimsoll's own, a disc and a line, in the colours of `state`.
pub(super) fn mark(html: &mut Html, state: State) {
    html.raw("<svg class=\"mark ").text(state.class()).raw(
        "\" viewBox=\"0 0 32 32\" width=\"32\" height=\"32\" aria-hidden=\"true\" focusable=\"false\">\
         <circle cx=\"16\" cy=\"16\" r=\"9.5\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"3\"/>\
         <path d=\"M1.5 16h29\" stroke=\"currentColor\" stroke-width=\"3\"/></svg>",
    );
}

/// How much of a life is left, as a bar; the words beside it say it too.
pub(super) fn bar(html: &mut Html, state: State, left: i64, life: i64) {
    let share = if life > 0 { (as_f64(left) / as_f64(life)).clamp(0.0, 1.0) } else { 0.0 };
    html.raw("<svg class=\"bar ").text(state.class()).raw(
        "\" viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" aria-hidden=\"true\" focusable=\"false\">\
         <rect class=\"rest\" width=\"100\" height=\"6\" rx=\"3\"/><rect class=\"left\" height=\"6\" rx=\"3\" width=\"",
    );
    html.at(share * 100.0).raw("\"/></svg>");
}

/// What readers of the registry had left of the timestamp's life, over time.
pub(super) struct Timeline {
    now: DateTime<Utc>,
    from: DateTime<Utc>,
    validity: i64,
    /// When, and how many seconds were left.
    line: Vec<(DateTime<Utc>, i64)>,
    /// Signed and not yet seen in the registry.
    unseen: Vec<DateTime<Utc>>,
    /// Least that was left at any time shown.
    least: i64,
    left: i64,
}

impl Timeline {
    /// None before the registry was first seen to show something of ours.
    pub(super) fn new(report: &Report) -> Option<Self> {
        let (now, validity) = (report.at, report.lives.timestamp_validity);
        let mut seen: Vec<(DateTime<Utc>, &Point)> =
            report.points.iter().filter_map(|point| Some((point.seen?.min(now), point))).collect();
        // Of those that came with one push the newest is what readers saw.
        seen.sort_by_key(|(at, point)| (*at, point.timestamp_version));
        let first = seen.first()?.0;
        let least_shown = TimeDelta::seconds(LEAST.min(report.lives.timestamp_interval * 2));
        let from = first.min(now - least_shown);
        let mut line = Vec::new();
        for (place, (at, point)) in seen.iter().enumerate() {
            let until = seen.get(place + 1).map_or(now, |(at, _)| *at);
            if until <= *at && place + 1 < seen.len() {
                continue;
            }
            let left = |when: DateTime<Utc>| validity - (when - point.signed).num_seconds();
            line.extend([(*at, left(*at)), (until, left(until))]);
        }
        let least = line.iter().map(|(_, left)| *left).min()?;
        let left = report.served.map_or(0, |served| (served.expires - now).num_seconds());
        let unseen = report.points.iter().filter(|point| point.seen.is_none()).map(|point| point.signed);
        Some(Self { now, from, validity, line, unseen: unseen.collect(), least, left })
    }

    /// What the picture shows, in a sentence.
    pub(super) fn words(&self) -> String {
        let since = span((self.now - self.line[0].0).num_seconds());
        let least = match self.least {
            ..=0 => "was without a timestamp that clients accept for a while".to_owned(),
            least => format!("always had a timestamp with at least {} left", span(least)),
        };
        let now = match self.left {
            ..=0 => format!("It expired {} ago.", span(-self.left)),
            left => format!("Now {} are left.", span(left)),
        };
        let waiting = match self.unseen.len() {
            0 => String::new(),
            1 => " One newer timestamp is signed and not there yet.".to_owned(),
            many => format!(" {many} newer timestamps are signed and not there yet."),
        };
        format!("In the last {since} the registry {least}. {now}{waiting}")
    }

    /// The picture.
    pub(super) fn draw(&self, html: &mut Html) {
        html.raw("<svg class=\"timeline\" viewBox=\"0 0 720 190\" role=\"img\" aria-labelledby=\"timeline-title\" aria-describedby=\"timeline-words\">");
        html.element(
            "<title id=\"timeline-title\">",
            "Freshness: life left of the timestamp in the registry",
            "</title>",
        );
        self.area(html);
        self.grid(html);
        for at in &self.unseen {
            html.raw("<path class=\"unseen\" d=\"M").at(self.x(*at)).raw(" ").at(BOTTOM).raw("v-9\"/>");
        }
        if let Some((at, left)) = self.line.last() {
            let class = if *left <= 0 {
                "bad"
            } else if left * 2 < self.validity {
                "soon"
            } else {
                "good"
            };
            html.raw("<circle class=\"now ").text(class).raw("\" r=\"4.5\" cx=\"").at(self.x(*at));
            html.raw("\" cy=\"").at(self.y(*left)).raw("\"/>");
        }
        html.raw("</svg>");
    }

    fn grid(&self, html: &mut Html) {
        for (share, class) in [(1.0, "line"), (0.5, "half"), (0.0, "line")] {
            let left = (as_f64(self.validity) * share).round();
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a duration of at most some days, in seconds"
            )]
            let left = left as i64;
            let y = self.y(left);
            html.raw("<path class=\"")
                .text(class)
                .raw("\" d=\"M")
                .at(LEFT)
                .raw(" ")
                .at(y)
                .raw("H")
                .at(RIGHT)
                .raw("\"/>");
            html.raw("<text class=\"axis end\" x=\"").at(LEFT - 8.0).raw("\" y=\"").at(y + 4.0).raw("\">");
            html.text(if left == 0 { "0".to_owned() } else { span(left) }).raw("</text>");
        }
        let steps = 4;
        let window = (self.now - self.from).num_seconds();
        for step in 0..=steps {
            let at = self.from + TimeDelta::seconds(window * step / steps);
            let class = match step {
                0 => "start",
                4 => "end",
                _ => "middle",
            };
            let format = if window > 2 * 86_400 {
                "%d %b %H:%M"
            } else if window > 600 {
                "%H:%M"
            } else {
                "%H:%M:%S"
            };
            html.raw("<text class=\"axis ")
                .text(class)
                .raw("\" x=\"")
                .at(self.x(at))
                .raw("\" y=\"")
                .at(BOTTOM + 22.0);
            html.raw("\">").text(at.format(format)).raw("</text>");
        }
    }

    fn area(&self, html: &mut Html) {
        let Some(((first, _), (last, _))) = self.line.first().zip(self.line.last()) else { return };
        for class in ["area", "level"] {
            html.raw("<path class=\"").text(class).raw("\" d=\"");
            let mut command = "M";
            for (at, left) in &self.line {
                html.raw(command).at(self.x(*at)).raw(" ").at(self.y(*left));
                command = "L";
            }
            if class == "area" {
                html.raw("L")
                    .at(self.x(*last))
                    .raw(" ")
                    .at(BOTTOM)
                    .raw("L")
                    .at(self.x(*first))
                    .raw(" ")
                    .at(BOTTOM)
                    .raw("Z");
            }
            html.raw("\"/>");
        }
    }

    fn x(&self, at: DateTime<Utc>) -> f64 {
        let window = as_f64((self.now - self.from).num_seconds().max(1));
        let share = as_f64((at - self.from).num_seconds()) / window;
        LEFT + (RIGHT - LEFT) * share.clamp(0.0, 1.0)
    }

    fn y(&self, left: i64) -> f64 {
        let share = as_f64(left) / as_f64(self.validity.max(1));
        BOTTOM - (BOTTOM - TOP) * share.clamp(0.0, 1.0)
    }
}

/// Exact for whatever a picture can show.
#[expect(clippy::cast_precision_loss, reason = "seconds, far below 2^53")]
fn as_f64(number: i64) -> f64 {
    number as f64
}

const _: () = assert!(WIDTH > RIGHT && HEIGHT > BOTTOM, "the field lies inside of the drawing");
