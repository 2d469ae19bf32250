//! The table that is printed, and whether everything in it held.

/// Rows of what was measured, beside what it may be.
#[derive(Default)]
pub(crate) struct Table {
    missed: Vec<String>,
}

impl Table {
    /// A heading.
    pub(crate) fn heading(&self, what: &str) {
        println!("\n{:9} {what:66} {:>9} {:>10}", "", "target", "measured");
    }

    /// At most so many.
    pub(crate) fn count(&mut self, number: &str, what: &str, limit: usize, measured: usize) {
        self.row(
            number,
            what,
            &format!("<= {limit}"),
            &measured.to_string(),
            measured <= limit,
        );
    }

    /// A ratio of at least so much.
    pub(crate) fn at_least(&mut self, number: &str, what: &str, limit: f64, measured: f64) {
        let held = measured >= limit;
        self.row(
            number,
            what,
            &format!(">= {limit:.2}"),
            &format!("{measured:.2}"),
            held,
        );
    }

    /// A ratio of at most so much.
    pub(crate) fn at_most(&mut self, number: &str, what: &str, limit: f64, measured: f64) {
        let held = measured <= limit;
        self.row(
            number,
            what,
            &format!("<= {limit}"),
            &format!("{measured:.3}"),
            held,
        );
    }

    /// A figure that stands beside others.
    pub(crate) fn figure(&self, what: &str, measured: &str) {
        println!("{:9} {what:66} {:>9} {measured:>10}", "", "");
    }

    fn row(&mut self, number: &str, what: &str, limit: &str, measured: &str, held: bool) {
        println!(
            "{number:9} {what:66} {limit:>9} {measured:>10}{}",
            if held { "" } else { "  MISSED" }
        );
        if !held {
            self.missed.push(number.to_owned());
        }
    }

    /// The numbers of the rows that missed their target.
    pub(crate) fn missed(&self) -> &[String] {
        &self.missed
    }
}

/// Operations per second, the median of five runs of about a fifth of a second each.
pub(crate) fn rate(mut operation: impl FnMut()) -> f64 {
    let mut rates: Vec<f64> = (0..5)
        .map(|_| {
            let (start, mut done) = (std::time::Instant::now(), 0_u32);
            while start.elapsed().as_millis() < 200 {
                operation();
                done += 1;
            }
            f64::from(done) / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[2]
}

/// The value that so many percent of the measurements do not exceed, in milliseconds.
pub(crate) fn percentile(measured: &mut [std::time::Duration], percent: usize) -> f64 {
    measured.sort_unstable();
    let last = measured.len() - 1;
    measured[(measured.len() * percent / 100).min(last)].as_secs_f64() * 1_000.0
}
