//! Prometheus' text format: families with help and type, samples with labels.

use std::fmt::Write;

/// What a family counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up.
    Counter,
}

/// A page in the making.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// Begins a family. Its samples must follow at once.
    pub(super) fn family(&mut self, name: &str, help: &str, kind: Kind) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            self.line(format_args!("{label}=\"{}\"", escaped(text)));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        self.line(format_args!(" {value}\n"));
    }

    /// A family of one sample, or of none where the value is unknown.
    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: Option<f64>,
    ) {
        self.family(name, help, Kind::Gauge);
        if let Some(value) = value {
            self.sample(name, labels, value);
        }
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, count: u64) {
        self.counter_if_known(name, help, Some(count));
    }

    /// A family of one sample, or of none where the count is unknown.
    pub(super) fn counter_if_known(&mut self, name: &str, help: &str, count: Option<u64>) {
        self.family(name, help, Kind::Counter);
        if let Some(count) = count {
            self.sample(name, &[], count as f64);
        }
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a string takes everything");
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn families_samples_and_labels() {
        let mut text = Text::default();
        text.counter("a_total", "Things.", 3);
        text.gauge("b", "Unknown now.", &[], None);
        text.gauge("c", "Zone.", &[("zone", "a\"b\\c\nd"), ("x", "y")], Some(1.5));
        expect![[r#"
            # HELP a_total Things.
            # TYPE a_total counter
            a_total 3
            # HELP b Unknown now.
            # TYPE b gauge
            # HELP c Zone.
            # TYPE c gauge
            c{zone="a\"b\\c\nd",x="y"} 1.5
        "#]]
        .assert_eq(&text.into_string());
    }
}
