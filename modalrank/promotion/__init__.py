"""From a registered version to the champion that the night job scores with, and back.

`frozen` is what versions are judged on, `worker` measures one version in a clean process, `gates` compare the
measurements, `aliases` moves the champion under a `lock`, `jobs` are the commands and `page` what they show.
"""
