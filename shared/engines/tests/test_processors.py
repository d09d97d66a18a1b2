"""Processors are told apart by what they can do with int8."""

import pytest
from headrace_engines.processors import cpu_class

_ZEN_2 = """\
processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7B12
flags\t\t: fpu vme de pse tsc msr sse sse2 ssse3 fma sse4_1 sse4_2 avx f16c avx2 bmi2 sha_ni
bugs\t\t: sysret_ss_attrs spectre_v1

processor\t: 1
flags\t\t: fpu vme de pse tsc msr sse sse2 ssse3 fma sse4_1 sse4_2 avx f16c avx2 bmi2 sha_ni
"""
_SKYLAKE = "flags\t\t: fpu sse2 avx avx2 avx512f avx512dq avx512bw avx512vl\n"
_ICE_LAKE = "flags\t\t: fpu sse2 avx avx2 avx512f avx512bw avx512vl avx512_vnni avx512_bitalg\n"
_ZEN_5 = "flags\t\t: fpu avx avx2 avx512f avx512_vnni avx_vnni\n"
_ALDER_LAKE = "flags\t\t: fpu sse2 avx avx2 avx_vnni\n"
_SAPPHIRE_RAPIDS = "flags\t\t: fpu avx avx2 avx512f avx512_vnni avx_vnni amx_bf16 amx_tile amx_int8\n"
_NEHALEM = "flags\t\t: fpu sse sse2 ssse3 sse4_1 sse4_2\n"
_GRAVITON_2 = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp asimddp\nCPU part\t: 0xd0c\n"
_GRAVITON_3 = "Features\t: fp asimd aes asimddp sve i8mm bf16\n"
_CORTEX_A72 = "Features\t: fp asimd evtstrm crc32\n"


@pytest.mark.parametrize(
    ("cpuinfo", "machine", "expected"),
    [
        (_ZEN_2, "x86_64", "avx2"),
        (_SKYLAKE, "x86_64", "avx512"),
        (_ICE_LAKE, "x86_64", "avx512-vnni"),
        (_ZEN_5, "x86_64", "avx512-vnni"),
        (_ALDER_LAKE, "x86_64", "avx-vnni"),
        (_SAPPHIRE_RAPIDS, "x86_64", "amx-int8"),
        (_NEHALEM, "x86_64", "x86-64"),
        (_GRAVITON_2, "aarch64", "arm64-dotprod"),
        (_GRAVITON_3, "aarch64", "arm64-i8mm"),
        (_CORTEX_A72, "aarch64", "arm64"),
        ("", "arm64", "arm64"),
        ("", "AMD64", "x86-64"),
        ("", "riscv64", "riscv64"),
        ("", "", "unknown"),
    ],
)
def test_the_class_is_the_best_that_a_processor_has(cpuinfo: str, machine: str, expected: str) -> None:
    assert cpu_class(cpuinfo, machine) == expected


def test_a_word_elsewhere_is_no_flag() -> None:
    assert cpu_class("model name\t: avx512_vnni\nflags\t: sse2\n", "x86_64") == "x86-64"
