import unittest

from app import main


class Sentence(unittest.TestCase):
    def test_it_counts(self) -> None:
        self.assertEqual(main.sentence(3, 1), f"{main.GREETING}: 3 visits, 1 in the last minute")
