"""Options of a deployment as people type them, drawn at random, for tests of what is declared and what is live."""

from __future__ import annotations

from hypothesis import strategies as st

_WORD = st.text("abcdefgABCDEFG0123456789_.-", min_size=1, max_size=12)
_VALUE = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.integers(),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
)
_NAMES = st.from_regex(r"[A-Za-z_.-][A-Za-z0-9_.-]{0,20}", fullmatch=True).filter(
    lambda name: not name.startswith("MODELSHIP_")
)
_CAPABILITIES = st.sampled_from(["ALL", "NET_RAW", "net_raw", "CAP_NET_RAW", "cap_chown", "Chown", "SETUID"])
_PATHS = st.from_regex(r"/[a-z][a-z0-9]{0,8}(/[a-z]{1,8})?/?", fullmatch=True)
#: Units in which memory is written, and the largest number of each that a machine may have.
_MEMORY = st.one_of(
    st.integers(6 << 20, 1 << 40).map(str),
    st.tuples(st.floats(6, 4096), st.sampled_from(["m", "M", "MiB", "mb", "Mi"])).map(
        lambda each: f"{each[0]:.3f}{each[1]}"
    ),
    st.tuples(st.integers(1, 100), st.sampled_from(["g", "G", "GiB", "gb"])).map(lambda each: f"{each[0]}{each[1]}"),
    st.just("0"),
)

OPTIONS_AS_TYPED = st.fixed_dictionaries(
    {},
    optional={
        "environment": st.dictionaries(_NAMES, _VALUE, max_size=4),
        "labels": st.dictionaries(_WORD.map(lambda word: f"x.{word}"), _VALUE, max_size=3),
        "user": st.sampled_from(["", "0", "1000", "1000:1000", "65532:65532", "nobody"]),
        "read_only": st.booleans(),
        "no_new_privileges": st.booleans(),
        "cap_drop": st.lists(_CAPABILITIES, max_size=4),
        "tmpfs": st.lists(_PATHS, max_size=2, unique_by=lambda path: path.rstrip("/")).flatmap(
            lambda paths: st.tuples(
                *(
                    st.sampled_from(["", ":", ":size=1m", ":rw,size=64k"]).map(lambda end, path=path: path + end)
                    for path in paths
                )
            ).map(list)
        ),
        "volumes": st.lists(
            st.sampled_from(["/etc:/host/etc:ro", "ms-test-data:/data", "/srv:/t", "/srv:/t"]), max_size=3
        ),
        "restart_policy": st.sampled_from(["no", "always", "unless-stopped", "on-failure"]),
        "drain_seconds": st.integers(0, 3600),
        "workers": st.integers(1, 64),
        "container_port": st.sampled_from([1, 80, 3000, 8080, 65535]),
        "port": st.sampled_from([81, 5000, 65534]),
        "host_ip": st.sampled_from(["127.0.0.1", "0.0.0.0", "::1", "::", "0:0:0:0:0:0:0:1", "localhost", "[::1]"]),
        "limits": st.fixed_dictionaries(
            {},
            optional={
                "memory": _MEMORY,
                "cpus": st.one_of(st.floats(0.01, 2), st.just(0)),
                "pids": st.integers(0, 1 << 20),
            },
        ),
    },
)
