"""The one-machine platform: `modelyard up` starts, watches and stops every process, `modelyard down` ends it from outside."""
