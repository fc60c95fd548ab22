#!/usr/bin/env python3
"""The launcher chooses as a Jetson's does, without a machine: launcher_test.py TEMPLATE."""

import sys
import tempfile
import unittest

from emulator import Failure
from launcher import GIVEN_UP, NAMES, Launcher

template = sys.argv.pop(1)


class LauncherTest(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        self.launcher = Launcher(self.place.name, None, template)
        self.launcher.flash()
        self.variables = self.launcher.variables

    def starts(self, count):
        """Of systems that nobody marks."""
        return "".join(NAMES[self.launcher.choose()] for _ in range(count))

    def ask_for(self, slot):
        self.variables.delete("BootChainFwStatus")
        self.variables.set("BootChainFwNext", slot)

    def mark(self):
        """As nvbootctrl verify does in system A."""
        self.variables.set("StandInRetries", 3 | self.launcher.retries()[1] << 8)

    def test_three_starts_that_nobody_marks_lead_to_the_other_system(self):
        self.assertEqual(self.starts(4), "AAAB")
        self.assertEqual(self.variables.get("RootfsStatusSlotA"), GIVEN_UP)

    def test_a_marked_system_is_started_for_ever(self):
        for _ in range(5):
            self.assertEqual(self.starts(1), "A")
            self.mark()

    def test_what_is_asked_for_stays_and_is_tried_three_times(self):
        self.ask_for(1)
        self.assertEqual(self.starts(4), "BBBA")

    def test_a_system_that_was_given_up_is_started_when_it_is_good_again(self):
        self.assertEqual(self.starts(4), "AAAB")
        self.ask_for(0)
        self.assertEqual(self.starts(1), "B")
        self.variables.set("RootfsStatusSlotA", 0)
        self.ask_for(0)
        self.assertEqual(self.starts(1), "A")

    def test_a_change_before_which_is_open_keeps_the_next_one_from_being_made(self):
        self.ask_for(1)
        self.assertEqual(self.starts(1), "B")
        self.variables.set("BootChainFwNext", 0)
        self.assertEqual(self.starts(1), "B")
        self.assertIsNone(self.variables.get("BootChainFwNext"))

    def test_without_power_the_retries_begin_anew(self):
        self.assertEqual(self.starts(2), "AA")
        self.launcher.lose_power()
        self.assertEqual(self.starts(4), "AAAB")

    def test_two_systems_that_fail_lead_to_recovery(self):
        self.assertEqual(self.starts(6), "AAABBB")
        with self.assertRaises(Failure):
            self.launcher.choose()


if __name__ == "__main__":
    unittest.main()
