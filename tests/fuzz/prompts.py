"""Hostile prompts over REST: each gets the right answer, or an error in words, and the server lives."""

from __future__ import annotations

import json
from collections import Counter

import httpx
import numpy as np

import nmri3d
from nmri3d.api.representations import RESULT_FILE
from nmri3d.errors import InputError
from tests.api.hostile import as_carried, hostile_prompts
from tests.fuzz.server import Running


def hostile(server: Running, count: int) -> Counter[str]:
    """Scan them all; how many were answered and how many refused. Raises AssertionError for a wrong or unclear answer."""
    local = nmri3d.load("smollm2-135m")
    headers = {**server.headers, "Accept": RESULT_FILE, "Content-Type": "application/json"}
    ended: Counter[str] = Counter()
    with httpx.Client(base_url=server.address, headers=headers, timeout=300) as client:
        for prompt in hostile_prompts(count):
            answer = client.post("api/scan/activation", content=json.dumps({"prompt": prompt}))
            if answer.status_code == 200:
                found = nmri3d.open_scan(answer.content)
                wanted = nmri3d.scan(local, "fMRI", as_carried(prompt))
                np.testing.assert_array_equal(found.values, wanted.values, err_msg=repr(prompt[:80]))
                assert found.tokens == wanted.tokens, repr(prompt[:80])
                ended["answered"] += 1
                continue
            assert 400 <= answer.status_code < 500, (answer.status_code, prompt[:80])
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["detail"], prompt[:80]
            ended["refused"] += 1
            try:
                nmri3d.scan(local, "fMRI", as_carried(prompt))
            except InputError:
                continue
            raise AssertionError(f"refused, though it can be scanned: {prompt[:80]!r}: {answer.text[:200]}")
    return ended
