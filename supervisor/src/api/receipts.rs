//! The last receipts in numbers, for the status page. What was added and to whose chat
//! stands in the answer alone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::wire::memory::Noted;
use crate::api::wire::stoker::Receipt;
use crate::store::unix_s;

/// Receipts that are shown.
const MOST: usize = 10;

/// Clones note in the same list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Receipts(Arc<Mutex<VecDeque<Noted>>>);

impl Receipts {
    pub(crate) fn note(&self, receipt: &Receipt) {
        let noted = of(receipt, unix_s());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_front(noted);
        all.truncate(MOST);
    }

    /// Newest first.
    pub(crate) fn last(&self) -> Vec<Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

fn of(Receipt { code, memory, sections, problems }: &Receipt, at: u64) -> Noted {
    let (code, memory) = (code.as_ref(), memory.as_ref());
    Noted {
        at,
        code_added: code.map(|code| code.added.len()),
        code_kept: code.map(|code| code.kept.len()),
        code_left_out: code.map(|code| code.left_out.len()),
        masked: memory.map(|memory| memory.masked),
        replaced: memory.map(|memory| memory.replaced),
        recalled: memory.map(|memory| memory.recalled.len()),
        sections: *sections,
        problems: problems.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_there_in_numbers_only() {
        let receipts = Receipts::default();
        for number in 0..20 {
            let problems = vec!["the secret of /srv/zeppelin".to_owned(); number];
            receipts.note(&Receipt { problems, ..Receipt::default() });
        }
        let last = receipts.last();
        assert_eq!(last.iter().map(|one| one.problems).collect::<Vec<_>>()[..2], [19, 18]);
        assert_eq!((last.len(), last[0].code_added), (MOST, None));
        assert!(!serde_json::to_string(&last).unwrap().contains("zeppelin"));
    }
}
