# SPDX-License-Identifier: Apache-2.0
from galelb.bpf.diagnostics import (
    clang_message,
    died_message,
    refused_by_environment,
    tail,
    verifier_message,
)


def test_clang_errors_become_short_lines() -> None:
    output = (
        "In file included from /virtual/main.c:4:\n"
        "nat.bpf.c:12:9: error: use of undeclared identifier 'x'\n  return x;\n         ^\n"
        "nat.bpf.c:20:1: warning: unused\n1 warning and 1 error generated.\n"
    )

    assert "nat.bpf.c:12: use of undeclared identifier 'x'" == clang_message(output)


def test_many_errors_are_cut_and_counted() -> None:
    output = "".join(f"a.c:{n}:1: error: wrong\n" for n in range(1, 14))

    lines = clang_message(output).splitlines()

    assert 11 == len(lines)
    assert "... and 3 more" == lines[-1]


def test_a_failure_without_an_error_shows_what_was_printed() -> None:
    assert "the compiler failed: out of paper" == clang_message("out of paper\n")
    assert "the compiler failed: it printed nothing" == clang_message("")


def test_a_verifier_message_holds_the_line_of_c_and_the_reason() -> None:
    log = (
        "0: R1=ctx() R10=fp0\n; return *(u8 *)data; @ x.bpf.c:7\n"
        "1: (71) r0 = *(u8 *)(r2 +0)\ninvalid access to packet, off=0 size=1\n"
        "processed 2 insns (limit 1000000) max_states_per_insn 0\n\n"
    )

    expected = (
        "the verifier refused prog at x.bpf.c:7: return *(u8 *)data;:"
        " invalid access to packet, off=0 size=1"
    )
    assert expected == verifier_message("prog", log)


def test_a_place_without_code_is_looked_up_in_the_text() -> None:
    text = '#line 1 "a.c"\nint a;\n#line 6 "x.c"\nint b;\n\tint c;\n#line 3 "x.c"\nint d;'
    log = ";  @ x.c:7\n1: (71) r0 = 0\nbad\n"

    assert "the verifier refused p at x.c:7: int c;: bad" == verifier_message("p", log, text)


def test_the_folder_that_the_log_leaves_out_is_told() -> None:
    text = '#line 1 "own/xx.c"\nint a;\n#line 1 "own/x.c"\n\treturn b;'
    log = ";  @ x.c:1\n1: (71) r0 = 0\nbad\n"

    assert "the verifier refused p at own/x.c:1: return b;: bad" == verifier_message("p", log, text)


def test_the_name_of_a_warning_that_is_an_error_is_left_out() -> None:
    output = "a.c:1:2: error: implicit declaration of 'f' [-Werror,-Wimplicit]\n"

    assert "a.c:1: implicit declaration of 'f'" == clang_message(output)


LLVM = (
    "warning: x\nerror: {}:14: in function gale_xdp_icmp i32 (%struct.xdp_md*): A call to"
    " built-in function 'memcpy' is not supported.\n\nerror: b.c:1:1: in function f i32 (): no\n"
)


def test_the_last_words_of_a_compiler_tell_where_and_what() -> None:
    what = "in gale_xdp_icmp: A call to built-in function 'memcpy' is not supported."

    assert f"own/x.c:7: {what}" == died_message(LLVM.format("own/x.c:7"), 1)
    assert what == died_message(LLVM.format("<unknown>:0"), 1)
    assert "the compiler ended with -11: it said nothing" == died_message("", -11)
    assert "the compiler ended with 3: oh" == died_message("error: a\noh\n", 3)


def test_a_program_without_an_end_is_not_called_large() -> None:
    log = "bpf: Argument list too long. Program  too large (1070 insns), at most 4096 insns\n"

    assert "a million steps" in verifier_message("prog", log)


def test_a_verifier_message_needs_no_log() -> None:
    assert "the verifier refused prog: why?" == verifier_message("prog", "")


def test_the_machine_is_blamed_only_for_what_it_said() -> None:
    assert refused_by_environment("bpf: Operation not permitted") is not None
    assert refused_by_environment("x.c:1:1: error: no") is None


def test_the_tail_of_a_log_is_thirty_lines() -> None:
    assert [str(n) for n in range(70, 100)] == tail("\n".join(map(str, range(100)))).splitlines()
