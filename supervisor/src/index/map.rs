//! The ranked map of a repository: the definitions that most of it rests on, file by
//! file, as many as a budget takes. Pure.
//!
//! Files are ranked as web pages once were: each gives its rank to those whose names it
//! uses, and a file that names are rare in gives more to each. What a file gives for one
//! name is the rank of that definition. (Page, Brin, Motwani and Winograd, "The PageRank
//! Citation Ranking", 1999; the rounds are bounded here.)

use std::collections::BTreeMap;

/// Share of its rank that a file hands on; the rest starts anew, at what is in focus.
const HANDED_ON: f64 = 0.85;
/// Rounds at most, and the change in one below which there are no more.
const ROUNDS: usize = 40;
const SETTLED: f64 = 1e-7;
/// What a file that nobody named as the focus has of the start, where there is one.
const ASIDE: f64 = 0.05;
/// Bytes that a token has, about. No model is asked, because any may read the map.
const BYTES: usize = 4;

/// A definition, by the number of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    pub file: usize,
    /// Counted from 1.
    pub line: u32,
    pub name: String,
    /// The text that it stands in.
    pub text: i64,
    /// Its line in that text, from 0.
    pub within: u32,
}

/// A file uses a name that these definitions may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    pub file: usize,
    pub definitions: Vec<usize>,
}

/// What each definition is worth, in their order; all together at most 1.
#[must_use]
pub fn ranks(focus: &[bool], definitions: &[Definition], uses: &[Use]) -> Vec<f64> {
    let start = start(focus);
    // What a file gives, and to which definition.
    let mut gifts: Vec<(usize, usize, f64)> = Vec::new();
    let mut given = vec![0.0; focus.len()];
    for Use { file, definitions: meant } in uses {
        let others = meant.iter().filter(|at| definitions[**at].file != *file);
        let share = 1.0 / count(meant.len().max(1));
        for at in others {
            gifts.push((*file, *at, share));
            given[*file] += share;
        }
    }
    let mut files = start.clone();
    for _ in 0..ROUNDS {
        let next = round(&files, &start, definitions, &gifts, &given);
        let change: f64 = files.iter().zip(&next).map(|(one, other)| (one - other).abs()).sum();
        files = next;
        if change < SETTLED {
            break;
        }
    }
    let mut ranks = vec![0.0; definitions.len()];
    for (file, at, share) in gifts {
        ranks[at] += HANDED_ON * files[file] * share / given[file];
    }
    ranks
}

/// Where rank begins: evenly, or mostly at what is in focus.
fn start(focus: &[bool]) -> Vec<f64> {
    let any = focus.contains(&true);
    let weight = |in_focus: &bool| if any && !in_focus { ASIDE } else { 1.0 };
    let all: f64 = focus.iter().map(weight).sum();
    focus.iter().map(|in_focus| weight(in_focus) / all).collect()
}

fn round(
    files: &[f64],
    start: &[f64],
    definitions: &[Definition],
    gifts: &[(usize, usize, f64)],
    given: &[f64],
) -> Vec<f64> {
    // A file that uses nothing gives to all, as the start does.
    let idle: f64 =
        files.iter().zip(given).filter(|(_, given)| **given == 0.0).map(|(rank, _)| rank).sum();
    let anew = 1.0 - HANDED_ON + HANDED_ON * idle;
    let mut next: Vec<_> = start.iter().map(|start| anew * start).collect();
    for (file, at, share) in gifts {
        next[definitions[*at].file] += HANDED_ON * files[*file] * share / given[*file];
    }
    next
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// A file of the map, with the definitions that are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub file: usize,
    /// In the order of the file.
    pub definitions: Vec<usize>,
}

/// The best definitions that fit into the budget, the file of the best one first, and
/// the tokens that they take, about. `said` is how a definition is written down.
#[must_use]
pub fn fitting(
    paths: &[String],
    definitions: &[Definition],
    ranks: &[f64],
    tokens: usize,
    mut said: impl FnMut(usize) -> String,
) -> (Vec<Shown>, usize) {
    let mut order: Vec<_> = (0..definitions.len()).collect();
    // Of equal ones the earlier in the tree.
    let place = |at: usize| (&paths[definitions[at].file], definitions[at].line);
    order.sort_by(|one, other| {
        ranks[*other].total_cmp(&ranks[*one]).then_with(|| place(*one).cmp(&place(*other)))
    });
    let mut shown: Vec<Shown> = Vec::new();
    let mut places: BTreeMap<usize, usize> = BTreeMap::new();
    let mut taken = 0;
    for at in order {
        let file = definitions[at].file;
        let path = if places.contains_key(&file) { 0 } else { line(&paths[file]) };
        let cost = line(&said(at)) + path;
        if taken + cost > tokens {
            break;
        }
        taken += cost;
        let place = *places.entry(file).or_insert_with(|| {
            shown.push(Shown { file, definitions: Vec::new() });
            shown.len() - 1
        });
        shown[place].definitions.push(at);
    }
    for file in &mut shown {
        file.definitions.sort_by_key(|at| definitions[*at].line);
    }
    (shown, taken)
}

/// Tokens of a line, about.
fn line(text: &str) -> usize {
    text.len().div_ceil(BYTES) + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn definition(file: usize, line: u32) -> Definition {
        Definition { file, line, name: format!("f{file}_{line}"), text: 0, within: 0 }
    }

    fn uses(file: usize, definitions: &[usize]) -> Use {
        Use { file, definitions: definitions.to_vec() }
    }

    fn paths(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("{number}.rs")).collect()
    }

    #[test]
    fn what_many_and_important_files_use_comes_first() {
        let definitions = [definition(0, 1), definition(1, 1), definition(2, 1), definition(2, 9)];
        // 3 and 4 use 0, which uses 1; 3 uses 2 as well, and nobody its other one.
        let all = [uses(3, &[0]), uses(4, &[0]), uses(0, &[1]), uses(3, &[2])];
        let ranks = ranks(&[false; 5], &definitions, &all);
        assert!(ranks[1] > ranks[0] && ranks[0] > ranks[2] && ranks[3] == 0.0, "{ranks:?}");
    }

    #[test]
    fn a_name_of_many_definitions_is_a_little_of_each_and_oneself_does_not_count() {
        let definitions = [definition(0, 1), definition(1, 1), definition(2, 1)];
        let all = [uses(3, &[0, 1]), uses(3, &[2]), uses(2, &[2])];
        let ranks = ranks(&[false; 4], &definitions, &all);
        assert!((ranks[0] - ranks[1]).abs() < 1e-12 && ranks[2] > ranks[0] * 1.9, "{ranks:?}");
    }

    #[test]
    fn what_is_in_focus_draws_the_map_to_what_it_uses() {
        let definitions = [definition(0, 1), definition(1, 1)];
        let all = [uses(2, &[0]), uses(3, &[0]), uses(4, &[1])];
        let even = ranks(&[false; 5], &definitions, &all);
        assert!(even[0] > even[1]);
        let focused = ranks(&[false, false, false, false, true], &definitions, &all);
        assert!(focused[1] > focused[0], "{focused:?}");
    }

    #[test]
    fn the_best_that_fit_are_shown_by_file() {
        let definitions = [definition(0, 7), definition(1, 1), definition(0, 2)];
        let show = |tokens| {
            fitting(&paths(2), &definitions, &[0.3, 0.2, 0.1], tokens, |at| {
                format!("fn {}()", definitions[at].name)
            })
        };
        let (shown, tokens) = show(100);
        let listed: Vec<_> = shown.iter().map(|one| (one.file, one.definitions.clone())).collect();
        assert_eq!(listed, [(0, vec![2, 0]), (1, vec![1])]);
        assert!(tokens <= 100);
        assert_eq!(show(8).0.len(), 1);
        assert_eq!(show(2), (Vec::new(), 0));
    }

    proptest! {
        #[test]
        fn ranks_are_shares_the_same_each_time_and_never_over_the_budget(
            at in prop::collection::vec(0usize..8, 1..30),
            used in prop::collection::vec((0usize..8, prop::collection::vec(0usize..30, 0..5)), 0..60),
            tokens in 0usize..200,
        ) {
            let definitions: Vec<_> = at.iter().zip(1..).map(|(file, line)| definition(*file, line)).collect();
            let all: Vec<_> = used
                .iter()
                .map(|(file, meant)| {
                    let meant: Vec<_> = meant.iter().map(|at| at % definitions.len()).collect();
                    uses(*file, &meant)
                })
                .collect();
            let found = ranks(&[false; 8], &definitions, &all);
            prop_assert_eq!(&found, &ranks(&[false; 8], &definitions, &all));
            prop_assert!(found.iter().all(|rank| (0.0..=1.0).contains(rank)));
            prop_assert!(found.iter().sum::<f64>() <= 1.0 + 1e-9);
            let (shown, taken) = fitting(&paths(8), &definitions, &found, tokens, |at| definitions[at].name.clone());
            prop_assert!(taken <= tokens);
            prop_assert!(shown.iter().all(|file| !file.definitions.is_empty()));
        }
    }
}
