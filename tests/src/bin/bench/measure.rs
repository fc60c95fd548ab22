//! What is measured, in which unit, and what it must reach.

use serde::{Serialize, Serializer};

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    TokensPerS { clients: u64, drawn: bool },
    PrefixWorst,
    PrefixMedian,
    DisturbedShare { apart: bool },
    DisturbedTokensPerS { apart: bool },
    LongPromptGap,
    LongPromptFirst,
    Start,
    SupervisorCpu,
    Resident,
    Wakeups,
    OtherWakeups,
}

/// What must be true of a row. Ratios are ours to the peer's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    RatioAtLeast(f64),
    RatioAtMost(f64),
    /// In the row's unit.
    OursAtLeast(f64),
    OursAtMost(f64),
    /// Shown because it explains another row.
    None,
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    TokensPerS,
    Seconds,
    /// 0 to 1, written as per cent.
    Share,
    Mebibytes,
    PerMinute,
}

impl Key {
    /// Every row, in the table's order.
    pub(crate) fn all() -> Vec<Self> {
        let rates = [false, true].into_iter().flat_map(|drawn| {
            [1, 4, 8].into_iter().map(move |clients| Self::TokensPerS { clients, drawn })
        });
        rates
            .chain([
                Self::PrefixWorst,
                Self::PrefixMedian,
                Self::DisturbedShare { apart: false },
                Self::DisturbedShare { apart: true },
                Self::DisturbedTokensPerS { apart: false },
                Self::DisturbedTokensPerS { apart: true },
                Self::LongPromptGap,
                Self::LongPromptFirst,
                Self::Start,
                Self::SupervisorCpu,
                Self::Resident,
                Self::Wakeups,
                Self::OtherWakeups,
            ])
            .collect()
    }

    /// The name in the JSON document; it ends in the unit.
    pub(crate) fn name(self) -> String {
        let name = match self {
            Self::TokensPerS { clients, drawn } => {
                let sampling = if drawn { "drawn" } else { "greedy" };
                return format!("clients_{clients}_{sampling}_tokens_per_s");
            }
            Self::PrefixWorst => "prefix_worst_first_token_s",
            Self::PrefixMedian => "prefix_median_first_token_s",
            Self::DisturbedShare { apart: false } => "beside_own_session_speed_kept",
            Self::DisturbedShare { apart: true } => "beside_other_session_speed_kept",
            Self::DisturbedTokensPerS { apart: false } => "beside_own_session_tokens_per_s",
            Self::DisturbedTokensPerS { apart: true } => "beside_other_session_tokens_per_s",
            Self::LongPromptGap => "long_prompt_worst_gap_s",
            Self::LongPromptFirst => "long_prompt_first_token_s",
            Self::Start => "start_to_first_token_s",
            Self::SupervisorCpu => "supervisor_cpu_share",
            Self::Resident => "supervisor_idle_resident_mib",
            Self::Wakeups => "supervisor_idle_wakeups_per_min",
            Self::OtherWakeups => "supervisor_idle_other_wakeups_per_min",
        };
        name.to_owned()
    }

    /// The row's first cell.
    pub(crate) fn title(self) -> String {
        let title = match self {
            Self::TokensPerS { clients, drawn } => {
                let clients =
                    if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") };
                return format!(
                    "completions, {clients}, {}",
                    if drawn { "drawn" } else { "greedy" }
                );
            }
            Self::PrefixWorst => "4 clients, same new prefix: worst first token",
            Self::PrefixMedian => "4 clients, same new prefix: median first token",
            Self::DisturbedShare { apart: false } => "4 clients, busy process beside: speed kept",
            Self::DisturbedShare { apart: true } => "  the same, process of another session",
            Self::DisturbedTokensPerS { apart: false } => "4 clients, busy process beside",
            Self::DisturbedTokensPerS { apart: true } => "  the same, process of another session",
            Self::LongPromptGap => "3,000-token prompt beside 4 streams: worst gap",
            Self::LongPromptFirst => "3,000-token prompt beside 4 streams: its first token",
            Self::Start => "start of the process to first token",
            Self::SupervisorCpu => "supervisor's share of processor time, 8 streams",
            Self::Resident => "supervisor idle: resident",
            Self::Wakeups => "supervisor idle: wake-ups, all",
            Self::OtherWakeups => "supervisor idle: wake-ups beside telemetry",
        };
        title.to_owned()
    }

    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::TokensPerS { .. } | Self::DisturbedTokensPerS { .. } => Unit::TokensPerS,
            Self::PrefixWorst
            | Self::PrefixMedian
            | Self::LongPromptGap
            | Self::LongPromptFirst
            | Self::Start => Unit::Seconds,
            Self::DisturbedShare { .. } | Self::SupervisorCpu => Unit::Share,
            Self::Resident => Unit::Mebibytes,
            Self::Wakeups | Self::OtherWakeups => Unit::PerMinute,
        }
    }

    pub(crate) fn goal(self) -> Goal {
        match self {
            Self::TokensPerS { .. } => Goal::RatioAtLeast(1.0),
            Self::PrefixWorst => Goal::RatioAtMost(0.4),
            Self::PrefixMedian => Goal::RatioAtMost(1.0),
            Self::DisturbedShare { .. } => Goal::OursAtLeast(0.5),
            Self::LongPromptGap => Goal::RatioAtMost(0.5),
            Self::Start => Goal::RatioAtMost(1.2),
            Self::SupervisorCpu => Goal::OursAtMost(0.03),
            Self::Resident => Goal::OursAtMost(20.0),
            // A timer that fires every ten seconds would be seen.
            Self::OtherWakeups => Goal::OursAtMost(5.0),
            Self::DisturbedTokensPerS { .. } | Self::LongPromptFirst | Self::Wakeups => Goal::None,
        }
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl Goal {
    /// Whether it is reached; `None` where there is no goal or nothing to judge.
    pub(crate) fn is_met(self, ours: Option<f64>, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::RatioAtLeast(least) => Some(ratio? >= least),
            Self::RatioAtMost(most) => Some(ratio? <= most),
            Self::OursAtLeast(least) => Some(ours? >= least),
            Self::OursAtMost(most) => Some(ours? <= most),
            Self::None => None,
        }
    }
}

impl Unit {
    /// A number with its unit left out.
    pub(crate) fn number(self, value: f64) -> String {
        match self {
            Self::TokensPerS | Self::Mebibytes => format!("{value:.1}"),
            Self::Seconds => format!("{value:.2}"),
            Self::Share => format!("{:.1}", value * 100.0),
            Self::PerMinute => format!("{value:.0}"),
        }
    }

    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::TokensPerS => "tokens/s",
            Self::Seconds => "s",
            Self::Share => "%",
            Self::Mebibytes => "MiB",
            Self::PerMinute => "/min",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_at_its_bound_and_unknown_without_its_number() {
        assert_eq!(Goal::RatioAtLeast(1.0).is_met(None, Some(1.0)), Some(true));
        assert_eq!(Goal::RatioAtMost(0.4).is_met(None, Some(0.41)), Some(false));
        assert_eq!(Goal::OursAtLeast(0.5).is_met(Some(0.49), Some(9.0)), Some(false));
        assert_eq!(Goal::OursAtMost(20.0).is_met(Some(19.0), None), Some(true));
        assert_eq!(Goal::RatioAtMost(0.4).is_met(Some(0.1), None), None);
        assert_eq!(Goal::None.is_met(Some(0.1), Some(0.1)), None);
    }

    #[test]
    fn no_two_rows_have_one_name() {
        let mut names: Vec<_> = Key::all().into_iter().map(Key::name).collect();
        let rows = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), rows);
    }
}
