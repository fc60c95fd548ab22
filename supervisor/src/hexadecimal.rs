//! Bytes as lower-case hexadecimal digits, two for each.

use std::fmt;

/// Shows them so.
pub(crate) struct Hexadecimal<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hexadecimal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_two_digits() {
        assert_eq!(Hexadecimal(&[0, 0x0a, 0xff]).to_string(), "000aff");
        assert_eq!(Hexadecimal(&[]).to_string(), "");
    }
}
