//! Durations as people write them: `90s`, `30m`, `1h`, `1d`.

/// Seconds of a duration; `None` for anything but a whole number and one unit.
pub fn parse_duration(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A duration in the largest unit that leaves a whole number; [`parse_duration`] reads it back.
pub(crate) fn format_duration(seconds: u64) -> String {
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    match units
        .iter()
        .find(|(factor, _)| seconds > 0 && seconds.is_multiple_of(*factor))
    {
        Some((factor, unit)) => format!("{}{unit}", seconds / factor),
        None => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_people_do() {
        for (seconds, text) in [
            (0, "0s"),
            (90, "90s"),
            (120, "2m"),
            (5400, "90m"),
            (3600, "1h"),
            (86_400, "1d"),
        ] {
            assert_eq!(format_duration(seconds), text);
            assert_eq!(parse_duration(text), Some(seconds));
        }
    }

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(parse_duration("90s"), Some(90));
        assert_eq!(parse_duration("1h"), Some(3600));
        for bad in ["", "h", "1", "1w", "-1h", "1.5h", "1 h", "99999999999999999999d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
