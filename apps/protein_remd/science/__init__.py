"""The physics of a campaign: arrays and numbers in, arrays and numbers out."""
