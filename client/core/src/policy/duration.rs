//! Durations as a policy writes them.

use chrono::TimeDelta;

/// The longest duration, days.
const MAX_DAYS: i64 = 36_500;

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no duration: a whole number from 1 and s, m, h or d, as 90d; at most {MAX_DAYS}d")]
pub struct DurationError {
    /// What was given, cut to 80 characters.
    pub text: String,
}

/// A whole number from 1 and a unit, seconds to days: `45s`, `10m`, `12h`, `90d`.
///
/// # Errors
/// [`DurationError`].
pub fn duration(text: &str) -> Result<TimeDelta, DurationError> {
    let read = || {
        let unit = text.chars().next_back()?;
        let number = &text[..text.len() - unit.len_utf8()];
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number: i64 = number.parse().ok()?;
        let duration = match unit {
            's' => TimeDelta::try_seconds(number),
            'm' => TimeDelta::try_minutes(number),
            'h' => TimeDelta::try_hours(number),
            'd' => TimeDelta::try_days(number),
            _ => None,
        }?;
        (duration > TimeDelta::zero() && duration <= TimeDelta::days(MAX_DAYS)).then_some(duration)
    };
    read().ok_or_else(|| DurationError { text: text.chars().take(80).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, expected) in [
            ("1s", TimeDelta::seconds(1)),
            ("45s", TimeDelta::seconds(45)),
            ("10m", TimeDelta::minutes(10)),
            ("12h", TimeDelta::hours(12)),
            ("90d", TimeDelta::days(90)),
            ("36500d", TimeDelta::days(36_500)),
        ] {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        for bad in [
            "",
            "d",
            "0d",
            "-1d",
            "+1d",
            "1",
            "1.5d",
            "1 d",
            " 1d",
            "1D",
            "1w",
            "1é",
            "36501d",
            "99999999999999999999s",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
