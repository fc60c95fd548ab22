//! Prompts made from a seed: plain English words, and never the same text for
//! two clients, two runs or two places unless a prefix is to be shared.
//!
//! A prefix cache that finds something in them has found what was shared on
//! purpose.

use crate::dice::Dice;

/// Common words; nearly all are one token each in any English vocabulary.
const WORDS: &str = "about above across after again air all almost along also always among and \
    animal answer any area around ask back base because become before began behind between big \
    bird black blue board boat body book both box boy bring brought build busy call came car \
    care carry cause change check city class clear close cold color come common complete correct \
    could country course cover cross cry cut dark day deep develop did direct distance door down \
    draw dry during each early earth ease east eat end enough even every example eye face fact \
    fall family far farm fast father feel few field figure fill final find fine fire first fish \
    five floor fly follow food force form found four free friend front full game gave girl give \
    gold good got govern great green ground group grow half hand happen hard head hear heard heat \
    help here high hold home horse hot hour house hundred idea inch interest island just keep \
    kind king knew know land language large last late laugh lay lead learn leave left letter life \
    light like line list listen little live long look love low machine made main make man many \
    map mark mean measure men might mile mind miss money moon more morning most mother mountain \
    move much multiply music must name near need never new next night north note nothing notice \
    noun now number object off often old once one only open order other our out over own page \
    paper part pass pattern people perhaps person picture piece place plain plan plane plant play \
    point port pose possible pound power press problem produce product pull put question quick \
    rain ran reach read ready real record red remember rest right river road rock room round rule \
    run said same saw say school science sea second see seem self sentence serve set several shape \
    ship short should show side simple since sing sit six size sleep slow small snow some song \
    soon sound south special spell stand star start state stay steam step still stop story street \
    strong study such sun sure surface system table tail take talk teach tell ten test than thing \
    think those thought thousand three through time today together told took top toward town \
    travel tree true try turn two under unit until use usual very voice vowel wait walk war warm \
    watch water way week weight went west wheel where while white whole wind wonder wood word work \
    world write year young";

/// A stream of words that depends on the seed and the path alone.
#[derive(Debug)]
pub struct Prompts {
    words: Vec<&'static str>,
    dice: Dice,
}

impl Prompts {
    /// `path` tells the places apart where prompts of one run are made.
    #[must_use]
    pub fn new(seed: u64, path: &[u64]) -> Self {
        Self { words: WORDS.split_whitespace().collect(), dice: Dice::new(seed, path) }
    }

    /// Sentences of 6 to 13 words, `words` in all.
    pub fn text(&mut self, words: usize) -> String {
        let mut text = String::new();
        let mut sentence_left = 0;
        for _ in 0..words {
            let index = self.dice.below(self.words.len());
            let word = self.words[index];
            if sentence_left == 0 {
                sentence_left = 6 + self.dice.below(8);
                text.push_str(if text.is_empty() { "" } else { ". " });
                let (first, rest) = word.split_at(1);
                text.push_str(&first.to_uppercase());
                text.push_str(rest);
            } else {
                text.push(' ');
                text.push_str(word);
            }
            sentence_left -= 1;
        }
        text.push('.');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_place_gives_the_same_text_and_another_place_another() {
        let text = |seed, path: &[u64]| Prompts::new(seed, path).text(40);
        assert_eq!(text(1, &[2, 3]), text(1, &[2, 3]));
        for other in [text(2, &[2, 3]), text(1, &[3, 2]), text(1, &[2]), text(1, &[2, 4])] {
            assert_ne!(text(1, &[2, 3])[..12], other[..12]);
        }
    }

    #[test]
    fn the_text_has_the_words_asked_for() {
        assert_eq!(Prompts::new(7, &[]).text(800).split_whitespace().count(), 800);
    }
}
