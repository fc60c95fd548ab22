//! With a real systemd, in a machine of its own. `scripts/test` tells how to
//! leave these tests out where that cannot be had.

mod unit;
