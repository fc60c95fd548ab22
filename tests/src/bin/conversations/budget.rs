//! Random conversations, shortened as the server does it, each prompt added up.

use engine_api::protocol::{Message, Role};
use supervisor::memory::compose::{Part, Room, Section, compose};
use supervisor::memory::reset::{self, share};
use tests::dice::Dice;

/// Turns of one conversation at most.
const TURNS: usize = 30;

#[derive(Debug, Default)]
pub(crate) struct Budget {
    pub(crate) sequences: u64,
    pub(crate) prompts: u64,
    pub(crate) resets: u64,
    /// What cannot be left out does not fit: the client is told so.
    pub(crate) refused: u64,
    /// Prompts that are larger than the window without their answer.
    pub(crate) violations: u64,
}

pub(crate) fn run(sequences: u64, seed: u64) -> Budget {
    let mut budget = Budget { sequences, ..Budget::default() };
    for sequence in 0..sequences {
        budget.sequence(&mut Dice::new(seed, &[sequence]));
    }
    budget
}

/// A conversation and what is decided of it.
#[derive(Default)]
struct Talk {
    messages: Vec<Message>,
    tokens: Vec<u32>,
    /// What each takes without its text.
    masked_tokens: Vec<u32>,
    masked: usize,
    cut: usize,
    /// Of what stands in the place of the rest.
    instead: u32,
}

impl Budget {
    fn sequence(&mut self, dice: &mut Dice) {
        let window = number(dice.within(512, 32_768));
        let answer = number(1 + dice.below(511));
        let most = window - answer;
        let mut talk = Talk::default();
        talk.push(Role::System, dice, 200, false);
        for _ in 0..dice.within(1, TURNS) {
            talk.turn(dice, window / 6);
            let mut there = talk.sum();
            if reset::is_due(there, window, most) {
                talk.masked = talk.masked.max(reset::maskable(&talk.messages));
                there = talk.sum();
                if !reset::is_enough(there, window, most) {
                    let room = share(window, reset::KEPT).min(most);
                    let each = talk.each();
                    if let Some(cut) = reset::cut(&talk.messages, &each, talk.cut, room) {
                        self.resets += 1;
                        talk.cut = cut;
                        let shares = share(window, reset::LEDGER + reset::SUMMARIES);
                        talk.instead = number(dice.below(1 + wide(shares)));
                        there = talk.sum();
                    }
                }
            }
            self.prompts += 1;
            let mut parts = vec![Part { section: Section::There, tokens: there, worth: 0 }];
            for worth in 0..number(dice.below(12)) {
                let section = [Section::Summary, Section::Recalled, Section::Code][dice.below(3)];
                parts.push(Part { section, tokens: number(dice.below(900)), worth });
            }
            let room = Room {
                total: most,
                summaries: share(window, reset::SUMMARIES),
                recalled: share(window, 5),
                code: share(window, 25),
            };
            match compose(&parts, room) {
                Err(_) => self.refused += 1,
                Ok(plan) => {
                    let both = parts.iter().zip(&plan.kept).filter(|(_, kept)| **kept);
                    let sum: u64 = both.map(|(part, _)| u64::from(part.tokens)).sum();
                    let is_wrong = sum > u64::from(most) || sum != u64::from(plan.total);
                    self.violations += u64::from(is_wrong || !plan.kept[0]);
                }
            }
        }
    }
}

impl Talk {
    fn push(&mut self, role: Role, dice: &mut Dice, most: usize, calls: bool) {
        self.messages.push(Message {
            role,
            content: String::new(),
            tool_calls_json: calls.then(|| "[]".to_owned()),
            tool_call_id: None,
            name: None,
        });
        let tokens = number(dice.within(1, most.max(2)));
        self.tokens.push(tokens);
        self.masked_tokens.push(if role == Role::Tool { tokens.min(30) } else { tokens });
    }

    fn turn(&mut self, dice: &mut Dice, most: u32) {
        self.push(Role::User, dice, wide(most), false);
        for _ in 0..dice.below(3) {
            self.push(Role::Assistant, dice, 60, true);
            self.push(Role::Tool, dice, wide(most), false);
        }
        if dice.percent(70) {
            self.push(Role::Assistant, dice, wide(most) / 2, false);
            self.push(Role::User, dice, wide(most), false);
        }
    }

    fn each(&self) -> Vec<u32> {
        let of = |at: usize| match at < self.masked {
            true => self.masked_tokens[at],
            false => self.tokens[at],
        };
        (0..self.tokens.len()).map(of).collect()
    }

    /// Tokens of what is sent, before anything is added.
    fn sum(&self) -> u32 {
        let each = self.each();
        let kept = match self.cut {
            0 => (0..each.len()).collect(),
            cut => reset::kept(&self.messages, cut).0,
        };
        kept.into_iter().map(|at| each[at]).sum::<u32>() + self.instead
    }
}

fn number(size: usize) -> u32 {
    u32::try_from(size).expect("it was drawn small")
}

fn wide(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit")
}
