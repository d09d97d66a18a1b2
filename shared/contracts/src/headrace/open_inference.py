"""The Open Inference Protocol's messages, in a private descriptor pool. Generated from protos/inference."""

import base64
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"

_FILE = descriptor_pb2.FileDescriptorProto.FromString(
    base64.b64decode(
        "Ch5pbmZlcmVuY2Uvb3Blbl9pbmZlcmVuY2UucHJvdG8SCWluZmVyZW5jZSITChFTZXJ2ZXJMaXZlUmVxdWVzdCIoChJTZXJ2ZXJM"
        "aXZlUmVzcG9uc2USEgoEbGl2ZRgBIAEoCFIEbGl2ZSIUChJTZXJ2ZXJSZWFkeVJlcXVlc3QiKwoTU2VydmVyUmVhZHlSZXNwb25z"
        "ZRIUCgVyZWFkeRgBIAEoCFIFcmVhZHkiQQoRTW9kZWxSZWFkeVJlcXVlc3QSEgoEbmFtZRgBIAEoCVIEbmFtZRIYCgd2ZXJzaW9u"
        "GAIgASgJUgd2ZXJzaW9uIioKEk1vZGVsUmVhZHlSZXNwb25zZRIUCgVyZWFkeRgBIAEoCFIFcmVhZHkiFwoVU2VydmVyTWV0YWRh"
        "dGFSZXF1ZXN0ImYKFlNlcnZlck1ldGFkYXRhUmVzcG9uc2USEgoEbmFtZRgBIAEoCVIEbmFtZRIYCgd2ZXJzaW9uGAIgASgJUgd2"
        "ZXJzaW9uEh4KCmV4dGVuc2lvbnMYAyADKAlSCmV4dGVuc2lvbnMiRAoUTW9kZWxNZXRhZGF0YVJlcXVlc3QSEgoEbmFtZRgBIAEo"
        "CVIEbmFtZRIYCgd2ZXJzaW9uGAIgASgJUgd2ZXJzaW9uIs8CChVNb2RlbE1ldGFkYXRhUmVzcG9uc2USEgoEbmFtZRgBIAEoCVIE"
        "bmFtZRIaCgh2ZXJzaW9ucxgCIAMoCVIIdmVyc2lvbnMSGgoIcGxhdGZvcm0YAyABKAlSCHBsYXRmb3JtEkcKBmlucHV0cxgEIAMo"
        "CzIvLmluZmVyZW5jZS5Nb2RlbE1ldGFkYXRhUmVzcG9uc2UuVGVuc29yTWV0YWRhdGFSBmlucHV0cxJJCgdvdXRwdXRzGAUgAygL"
        "Mi8uaW5mZXJlbmNlLk1vZGVsTWV0YWRhdGFSZXNwb25zZS5UZW5zb3JNZXRhZGF0YVIHb3V0cHV0cxpWCg5UZW5zb3JNZXRhZGF0"
        "YRISCgRuYW1lGAEgASgJUgRuYW1lEhoKCGRhdGF0eXBlGAIgASgJUghkYXRhdHlwZRIUCgVzaGFwZRgDIAMoA1IFc2hhcGUi1wEK"
        "DkluZmVyUGFyYW1ldGVyEh8KCmJvb2xfcGFyYW0YASABKAhIAFIJYm9vbFBhcmFtEiEKC2ludDY0X3BhcmFtGAIgASgDSABSCmlu"
        "dDY0UGFyYW0SIwoMc3RyaW5nX3BhcmFtGAMgASgJSABSC3N0cmluZ1BhcmFtEiMKDGRvdWJsZV9wYXJhbRgEIAEoAUgAUgtkb3Vi"
        "bGVQYXJhbRIjCgx1aW50NjRfcGFyYW0YBSABKARIAFILdWludDY0UGFyYW1CEgoQcGFyYW1ldGVyX2Nob2ljZSLDAgoTSW5mZXJU"
        "ZW5zb3JDb250ZW50cxIjCg1ib29sX2NvbnRlbnRzGAEgAygIUgxib29sQ29udGVudHMSIQoMaW50X2NvbnRlbnRzGAIgAygFUgtp"
        "bnRDb250ZW50cxIlCg5pbnQ2NF9jb250ZW50cxgDIAMoA1INaW50NjRDb250ZW50cxIjCg11aW50X2NvbnRlbnRzGAQgAygNUgx1"
        "aW50Q29udGVudHMSJwoPdWludDY0X2NvbnRlbnRzGAUgAygEUg51aW50NjRDb250ZW50cxIjCg1mcDMyX2NvbnRlbnRzGAYgAygC"
        "UgxmcDMyQ29udGVudHMSIwoNZnA2NF9jb250ZW50cxgHIAMoAVIMZnA2NENvbnRlbnRzEiUKDmJ5dGVzX2NvbnRlbnRzGAggAygM"
        "Ug1ieXRlc0NvbnRlbnRzIp0IChFNb2RlbEluZmVyUmVxdWVzdBIdCgptb2RlbF9uYW1lGAEgASgJUgltb2RlbE5hbWUSIwoNbW9k"
        "ZWxfdmVyc2lvbhgCIAEoCVIMbW9kZWxWZXJzaW9uEg4KAmlkGAMgASgJUgJpZBJMCgpwYXJhbWV0ZXJzGAQgAygLMiwuaW5mZXJl"
        "bmNlLk1vZGVsSW5mZXJSZXF1ZXN0LlBhcmFtZXRlcnNFbnRyeVIKcGFyYW1ldGVycxJFCgZpbnB1dHMYBSADKAsyLS5pbmZlcmVu"
        "Y2UuTW9kZWxJbmZlclJlcXVlc3QuSW5mZXJJbnB1dFRlbnNvclIGaW5wdXRzElEKB291dHB1dHMYBiADKAsyNy5pbmZlcmVuY2Uu"
        "TW9kZWxJbmZlclJlcXVlc3QuSW5mZXJSZXF1ZXN0ZWRPdXRwdXRUZW5zb3JSB291dHB1dHMSLAoScmF3X2lucHV0X2NvbnRlbnRz"
        "GAcgAygMUhByYXdJbnB1dENvbnRlbnRzGs0CChBJbmZlcklucHV0VGVuc29yEhIKBG5hbWUYASABKAlSBG5hbWUSGgoIZGF0YXR5"
        "cGUYAiABKAlSCGRhdGF0eXBlEhQKBXNoYXBlGAMgAygDUgVzaGFwZRJdCgpwYXJhbWV0ZXJzGAQgAygLMj0uaW5mZXJlbmNlLk1v"
        "ZGVsSW5mZXJSZXF1ZXN0LkluZmVySW5wdXRUZW5zb3IuUGFyYW1ldGVyc0VudHJ5UgpwYXJhbWV0ZXJzEjoKCGNvbnRlbnRzGAUg"
        "ASgLMh4uaW5mZXJlbmNlLkluZmVyVGVuc29yQ29udGVudHNSCGNvbnRlbnRzGlgKD1BhcmFtZXRlcnNFbnRyeRIQCgNrZXkYASAB"
        "KAlSA2tleRIvCgV2YWx1ZRgCIAEoCzIZLmluZmVyZW5jZS5JbmZlclBhcmFtZXRlclIFdmFsdWU6AjgBGvMBChpJbmZlclJlcXVl"
        "c3RlZE91dHB1dFRlbnNvchISCgRuYW1lGAEgASgJUgRuYW1lEmcKCnBhcmFtZXRlcnMYAiADKAsyRy5pbmZlcmVuY2UuTW9kZWxJ"
        "bmZlclJlcXVlc3QuSW5mZXJSZXF1ZXN0ZWRPdXRwdXRUZW5zb3IuUGFyYW1ldGVyc0VudHJ5UgpwYXJhbWV0ZXJzGlgKD1BhcmFt"
        "ZXRlcnNFbnRyeRIQCgNrZXkYASABKAlSA2tleRIvCgV2YWx1ZRgCIAEoCzIZLmluZmVyZW5jZS5JbmZlclBhcmFtZXRlclIFdmFs"
        "dWU6AjgBGlgKD1BhcmFtZXRlcnNFbnRyeRIQCgNrZXkYASABKAlSA2tleRIvCgV2YWx1ZRgCIAEoCzIZLmluZmVyZW5jZS5JbmZl"
        "clBhcmFtZXRlclIFdmFsdWU6AjgBIt8FChJNb2RlbEluZmVyUmVzcG9uc2USHQoKbW9kZWxfbmFtZRgBIAEoCVIJbW9kZWxOYW1l"
        "EiMKDW1vZGVsX3ZlcnNpb24YAiABKAlSDG1vZGVsVmVyc2lvbhIOCgJpZBgDIAEoCVICaWQSTQoKcGFyYW1ldGVycxgEIAMoCzIt"
        "LmluZmVyZW5jZS5Nb2RlbEluZmVyUmVzcG9uc2UuUGFyYW1ldGVyc0VudHJ5UgpwYXJhbWV0ZXJzEkkKB291dHB1dHMYBSADKAsy"
        "Ly5pbmZlcmVuY2UuTW9kZWxJbmZlclJlc3BvbnNlLkluZmVyT3V0cHV0VGVuc29yUgdvdXRwdXRzEi4KE3Jhd19vdXRwdXRfY29u"
        "dGVudHMYBiADKAxSEXJhd091dHB1dENvbnRlbnRzGtACChFJbmZlck91dHB1dFRlbnNvchISCgRuYW1lGAEgASgJUgRuYW1lEhoK"
        "CGRhdGF0eXBlGAIgASgJUghkYXRhdHlwZRIUCgVzaGFwZRgDIAMoA1IFc2hhcGUSXwoKcGFyYW1ldGVycxgEIAMoCzI/LmluZmVy"
        "ZW5jZS5Nb2RlbEluZmVyUmVzcG9uc2UuSW5mZXJPdXRwdXRUZW5zb3IuUGFyYW1ldGVyc0VudHJ5UgpwYXJhbWV0ZXJzEjoKCGNv"
        "bnRlbnRzGAUgASgLMh4uaW5mZXJlbmNlLkluZmVyVGVuc29yQ29udGVudHNSCGNvbnRlbnRzGlgKD1BhcmFtZXRlcnNFbnRyeRIQ"
        "CgNrZXkYASABKAlSA2tleRIvCgV2YWx1ZRgCIAEoCzIZLmluZmVyZW5jZS5JbmZlclBhcmFtZXRlclIFdmFsdWU6AjgBGlgKD1Bh"
        "cmFtZXRlcnNFbnRyeRIQCgNrZXkYASABKAlSA2tleRIvCgV2YWx1ZRgCIAEoCzIZLmluZmVyZW5jZS5JbmZlclBhcmFtZXRlclIF"
        "dmFsdWU6AjgBIoUBChhNb2RlbFN0cmVhbUluZmVyUmVzcG9uc2USIwoNZXJyb3JfbWVzc2FnZRgBIAEoCVIMZXJyb3JNZXNzYWdl"
        "EkQKDmluZmVyX3Jlc3BvbnNlGAIgASgLMh0uaW5mZXJlbmNlLk1vZGVsSW5mZXJSZXNwb25zZVINaW5mZXJSZXNwb25zZSJCChJN"
        "b2RlbENvbmZpZ1JlcXVlc3QSEgoEbmFtZRgBIAEoCVIEbmFtZRIYCgd2ZXJzaW9uGAIgASgJUgd2ZXJzaW9uIkUKE01vZGVsQ29u"
        "ZmlnUmVzcG9uc2USLgoGY29uZmlnGAEgASgLMhYuaW5mZXJlbmNlLk1vZGVsQ29uZmlnUgZjb25maWciggEKCk1vZGVsSW5wdXQS"
        "EgoEbmFtZRgBIAEoCVIEbmFtZRIwCglkYXRhX3R5cGUYAiABKA4yEy5pbmZlcmVuY2UuRGF0YVR5cGVSCGRhdGFUeXBlEhIKBGRp"
        "bXMYBCADKANSBGRpbXMSGgoIb3B0aW9uYWwYCCABKAhSCG9wdGlvbmFsImcKC01vZGVsT3V0cHV0EhIKBG5hbWUYASABKAlSBG5h"
        "bWUSMAoJZGF0YV90eXBlGAIgASgOMhMuaW5mZXJlbmNlLkRhdGFUeXBlUghkYXRhVHlwZRISCgRkaW1zGAMgAygDUgRkaW1zIrkB"
        "ChJNb2RlbEluc3RhbmNlR3JvdXASEgoEbmFtZRgBIAEoCVIEbmFtZRIUCgVjb3VudBgCIAEoBVIFY291bnQSNgoEa2luZBgEIAEo"
        "DjIiLmluZmVyZW5jZS5Nb2RlbEluc3RhbmNlR3JvdXAuS2luZFIEa2luZCJBCgRLaW5kEg0KCUtJTkRfQVVUTxAAEgwKCEtJTkRf"
        "R1BVEAESDAoIS0lORF9DUFUQAhIOCgpLSU5EX01PREVMEAMigAEKEk1vZGVsVmVyc2lvblBvbGljeRJCCghzcGVjaWZpYxgDIAEo"
        "CzImLmluZmVyZW5jZS5Nb2RlbFZlcnNpb25Qb2xpY3kuU3BlY2lmaWNSCHNwZWNpZmljGiYKCFNwZWNpZmljEhoKCHZlcnNpb25z"
        "GAEgAygDUgh2ZXJzaW9ucyI2ChZNb2RlbFRyYW5zYWN0aW9uUG9saWN5EhwKCWRlY291cGxlZBgBIAEoCFIJZGVjb3VwbGVkIiwK"
        "Ek1vZGVsUmVzcG9uc2VDYWNoZRIWCgZlbmFibGUYASABKAhSBmVuYWJsZSKJBAoLTW9kZWxDb25maWcSEgoEbmFtZRgBIAEoCVIE"
        "bmFtZRIaCghwbGF0Zm9ybRgCIAEoCVIIcGxhdGZvcm0SRAoOdmVyc2lvbl9wb2xpY3kYAyABKAsyHS5pbmZlcmVuY2UuTW9kZWxW"
        "ZXJzaW9uUG9saWN5Ug12ZXJzaW9uUG9saWN5EiQKDm1heF9iYXRjaF9zaXplGAQgASgFUgxtYXhCYXRjaFNpemUSKwoFaW5wdXQY"
        "BSADKAsyFS5pbmZlcmVuY2UuTW9kZWxJbnB1dFIFaW5wdXQSLgoGb3V0cHV0GAYgAygLMhYuaW5mZXJlbmNlLk1vZGVsT3V0cHV0"
        "UgZvdXRwdXQSRAoOaW5zdGFuY2VfZ3JvdXAYByADKAsyHS5pbmZlcmVuY2UuTW9kZWxJbnN0YW5jZUdyb3VwUg1pbnN0YW5jZUdy"
        "b3VwEhgKB2JhY2tlbmQYESABKAlSB2JhY2tlbmQSWwoYbW9kZWxfdHJhbnNhY3Rpb25fcG9saWN5GBMgASgLMiEuaW5mZXJlbmNl"
        "Lk1vZGVsVHJhbnNhY3Rpb25Qb2xpY3lSFm1vZGVsVHJhbnNhY3Rpb25Qb2xpY3kSRAoOcmVzcG9uc2VfY2FjaGUYGCABKAsyHS5p"
        "bmZlcmVuY2UuTW9kZWxSZXNwb25zZUNhY2hlUg1yZXNwb25zZUNhY2hlIkYKFk1vZGVsU3RhdGlzdGljc1JlcXVlc3QSEgoEbmFt"
        "ZRgBIAEoCVIEbmFtZRIYCgd2ZXJzaW9uGAIgASgJUgd2ZXJzaW9uIlYKF01vZGVsU3RhdGlzdGljc1Jlc3BvbnNlEjsKC21vZGVs"
        "X3N0YXRzGAEgAygLMhouaW5mZXJlbmNlLk1vZGVsU3RhdGlzdGljc1IKbW9kZWxTdGF0cyI5ChFTdGF0aXN0aWNEdXJhdGlvbhIU"
        "CgVjb3VudBgBIAEoBFIFY291bnQSDgoCbnMYAiABKARSAm5zIvIDCg9JbmZlclN0YXRpc3RpY3MSNgoHc3VjY2VzcxgBIAEoCzIc"
        "LmluZmVyZW5jZS5TdGF0aXN0aWNEdXJhdGlvblIHc3VjY2VzcxIwCgRmYWlsGAIgASgLMhwuaW5mZXJlbmNlLlN0YXRpc3RpY0R1"
        "cmF0aW9uUgRmYWlsEjIKBXF1ZXVlGAMgASgLMhwuaW5mZXJlbmNlLlN0YXRpc3RpY0R1cmF0aW9uUgVxdWV1ZRJBCg1jb21wdXRl"
        "X2lucHV0GAQgASgLMhwuaW5mZXJlbmNlLlN0YXRpc3RpY0R1cmF0aW9uUgxjb21wdXRlSW5wdXQSQQoNY29tcHV0ZV9pbmZlchgF"
        "IAEoCzIcLmluZmVyZW5jZS5TdGF0aXN0aWNEdXJhdGlvblIMY29tcHV0ZUluZmVyEkMKDmNvbXB1dGVfb3V0cHV0GAYgASgLMhwu"
        "aW5mZXJlbmNlLlN0YXRpc3RpY0R1cmF0aW9uUg1jb21wdXRlT3V0cHV0EjkKCWNhY2hlX2hpdBgHIAEoCzIcLmluZmVyZW5jZS5T"
        "dGF0aXN0aWNEdXJhdGlvblIIY2FjaGVIaXQSOwoKY2FjaGVfbWlzcxgIIAEoCzIcLmluZmVyZW5jZS5TdGF0aXN0aWNEdXJhdGlv"
        "blIJY2FjaGVNaXNzIoACChRJbmZlckJhdGNoU3RhdGlzdGljcxIdCgpiYXRjaF9zaXplGAEgASgEUgliYXRjaFNpemUSQQoNY29t"
        "cHV0ZV9pbnB1dBgCIAEoCzIcLmluZmVyZW5jZS5TdGF0aXN0aWNEdXJhdGlvblIMY29tcHV0ZUlucHV0EkEKDWNvbXB1dGVfaW5m"
        "ZXIYAyABKAsyHC5pbmZlcmVuY2UuU3RhdGlzdGljRHVyYXRpb25SDGNvbXB1dGVJbmZlchJDCg5jb21wdXRlX291dHB1dBgEIAEo"
        "CzIcLmluZmVyZW5jZS5TdGF0aXN0aWNEdXJhdGlvblINY29tcHV0ZU91dHB1dCK/AgoPTW9kZWxTdGF0aXN0aWNzEhIKBG5hbWUY"
        "ASABKAlSBG5hbWUSGAoHdmVyc2lvbhgCIAEoCVIHdmVyc2lvbhIlCg5sYXN0X2luZmVyZW5jZRgDIAEoBFINbGFzdEluZmVyZW5j"
        "ZRInCg9pbmZlcmVuY2VfY291bnQYBCABKARSDmluZmVyZW5jZUNvdW50EicKD2V4ZWN1dGlvbl9jb3VudBgFIAEoBFIOZXhlY3V0"
        "aW9uQ291bnQSQwoPaW5mZXJlbmNlX3N0YXRzGAYgASgLMhouaW5mZXJlbmNlLkluZmVyU3RhdGlzdGljc1IOaW5mZXJlbmNlU3Rh"
        "dHMSQAoLYmF0Y2hfc3RhdHMYByADKAsyHy5pbmZlcmVuY2UuSW5mZXJCYXRjaFN0YXRpc3RpY3NSCmJhdGNoU3RhdHMiVwoWUmVw"
        "b3NpdG9yeUluZGV4UmVxdWVzdBInCg9yZXBvc2l0b3J5X25hbWUYASABKAlSDnJlcG9zaXRvcnlOYW1lEhQKBXJlYWR5GAIgASgI"
        "UgVyZWFkeSLKAQoXUmVwb3NpdG9yeUluZGV4UmVzcG9uc2USRQoGbW9kZWxzGAEgAygLMi0uaW5mZXJlbmNlLlJlcG9zaXRvcnlJ"
        "bmRleFJlc3BvbnNlLk1vZGVsSW5kZXhSBm1vZGVscxpoCgpNb2RlbEluZGV4EhIKBG5hbWUYASABKAlSBG5hbWUSGAoHdmVyc2lv"
        "bhgCIAEoCVIHdmVyc2lvbhIUCgVzdGF0ZRgDIAEoCVIFc3RhdGUSFgoGcmVhc29uGAQgASgJUgZyZWFzb24iZAoaUmVwb3NpdG9y"
        "eU1vZGVsTG9hZFJlcXVlc3QSJwoPcmVwb3NpdG9yeV9uYW1lGAEgASgJUg5yZXBvc2l0b3J5TmFtZRIdCgptb2RlbF9uYW1lGAIg"
        "ASgJUgltb2RlbE5hbWUiHQobUmVwb3NpdG9yeU1vZGVsTG9hZFJlc3BvbnNlImYKHFJlcG9zaXRvcnlNb2RlbFVubG9hZFJlcXVl"
        "c3QSJwoPcmVwb3NpdG9yeV9uYW1lGAEgASgJUg5yZXBvc2l0b3J5TmFtZRIdCgptb2RlbF9uYW1lGAIgASgJUgltb2RlbE5hbWUi"
        "HwodUmVwb3NpdG9yeU1vZGVsVW5sb2FkUmVzcG9uc2Uq+gEKCERhdGFUeXBlEhAKDFRZUEVfSU5WQUxJRBAAEg0KCVRZUEVfQk9P"
        "TBABEg4KClRZUEVfVUlOVDgQAhIPCgtUWVBFX1VJTlQxNhADEg8KC1RZUEVfVUlOVDMyEAQSDwoLVFlQRV9VSU5UNjQQBRINCglU"
        "WVBFX0lOVDgQBhIOCgpUWVBFX0lOVDE2EAcSDgoKVFlQRV9JTlQzMhAIEg4KClRZUEVfSU5UNjQQCRINCglUWVBFX0ZQMTYQChIN"
        "CglUWVBFX0ZQMzIQCxINCglUWVBFX0ZQNjQQDBIPCgtUWVBFX1NUUklORxANEg0KCVRZUEVfQkYxNhAOMrcIChRHUlBDSW5mZXJl"
        "bmNlU2VydmljZRJLCgpTZXJ2ZXJMaXZlEhwuaW5mZXJlbmNlLlNlcnZlckxpdmVSZXF1ZXN0Gh0uaW5mZXJlbmNlLlNlcnZlckxp"
        "dmVSZXNwb25zZSIAEk4KC1NlcnZlclJlYWR5Eh0uaW5mZXJlbmNlLlNlcnZlclJlYWR5UmVxdWVzdBoeLmluZmVyZW5jZS5TZXJ2"
        "ZXJSZWFkeVJlc3BvbnNlIgASSwoKTW9kZWxSZWFkeRIcLmluZmVyZW5jZS5Nb2RlbFJlYWR5UmVxdWVzdBodLmluZmVyZW5jZS5N"
        "b2RlbFJlYWR5UmVzcG9uc2UiABJXCg5TZXJ2ZXJNZXRhZGF0YRIgLmluZmVyZW5jZS5TZXJ2ZXJNZXRhZGF0YVJlcXVlc3QaIS5p"
        "bmZlcmVuY2UuU2VydmVyTWV0YWRhdGFSZXNwb25zZSIAElQKDU1vZGVsTWV0YWRhdGESHy5pbmZlcmVuY2UuTW9kZWxNZXRhZGF0"
        "YVJlcXVlc3QaIC5pbmZlcmVuY2UuTW9kZWxNZXRhZGF0YVJlc3BvbnNlIgASSwoKTW9kZWxJbmZlchIcLmluZmVyZW5jZS5Nb2Rl"
        "bEluZmVyUmVxdWVzdBodLmluZmVyZW5jZS5Nb2RlbEluZmVyUmVzcG9uc2UiABJbChBNb2RlbFN0cmVhbUluZmVyEhwuaW5mZXJl"
        "bmNlLk1vZGVsSW5mZXJSZXF1ZXN0GiMuaW5mZXJlbmNlLk1vZGVsU3RyZWFtSW5mZXJSZXNwb25zZSIAKAEwARJOCgtNb2RlbENv"
        "bmZpZxIdLmluZmVyZW5jZS5Nb2RlbENvbmZpZ1JlcXVlc3QaHi5pbmZlcmVuY2UuTW9kZWxDb25maWdSZXNwb25zZSIAEloKD01v"
        "ZGVsU3RhdGlzdGljcxIhLmluZmVyZW5jZS5Nb2RlbFN0YXRpc3RpY3NSZXF1ZXN0GiIuaW5mZXJlbmNlLk1vZGVsU3RhdGlzdGlj"
        "c1Jlc3BvbnNlIgASWgoPUmVwb3NpdG9yeUluZGV4EiEuaW5mZXJlbmNlLlJlcG9zaXRvcnlJbmRleFJlcXVlc3QaIi5pbmZlcmVu"
        "Y2UuUmVwb3NpdG9yeUluZGV4UmVzcG9uc2UiABJmChNSZXBvc2l0b3J5TW9kZWxMb2FkEiUuaW5mZXJlbmNlLlJlcG9zaXRvcnlN"
        "b2RlbExvYWRSZXF1ZXN0GiYuaW5mZXJlbmNlLlJlcG9zaXRvcnlNb2RlbExvYWRSZXNwb25zZSIAEmwKFVJlcG9zaXRvcnlNb2Rl"
        "bFVubG9hZBInLmluZmVyZW5jZS5SZXBvc2l0b3J5TW9kZWxVbmxvYWRSZXF1ZXN0GiguaW5mZXJlbmNlLlJlcG9zaXRvcnlNb2Rl"
        "bFVubG9hZFJlc3BvbnNlIgBiBnByb3RvMw=="
    )
)

POOL = descriptor_pool.DescriptorPool()
"""The private pool; pass it to gRPC reflection."""
POOL.Add(_FILE)  # type: ignore[no-untyped-call]


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"inference.{name}"))


METHODS = {
    method.name: (_message(method.input_type.rsplit(".")[-1]), _message(method.output_type.rsplit(".")[-1]))
    for method in _FILE.service[0].method
}
"""Request and response class of each method, by the method's name."""

ServerLiveRequest = _message("ServerLiveRequest")
ServerLiveResponse = _message("ServerLiveResponse")
ServerReadyRequest = _message("ServerReadyRequest")
ServerReadyResponse = _message("ServerReadyResponse")
ModelReadyRequest = _message("ModelReadyRequest")
ModelReadyResponse = _message("ModelReadyResponse")
ServerMetadataRequest = _message("ServerMetadataRequest")
ServerMetadataResponse = _message("ServerMetadataResponse")
ModelMetadataRequest = _message("ModelMetadataRequest")
ModelMetadataResponse = _message("ModelMetadataResponse")
InferParameter = _message("InferParameter")
InferTensorContents = _message("InferTensorContents")
ModelInferRequest = _message("ModelInferRequest")
ModelInferResponse = _message("ModelInferResponse")
ModelStreamInferResponse = _message("ModelStreamInferResponse")
ModelConfigRequest = _message("ModelConfigRequest")
ModelConfigResponse = _message("ModelConfigResponse")
ModelInput = _message("ModelInput")
ModelOutput = _message("ModelOutput")
ModelInstanceGroup = _message("ModelInstanceGroup")
ModelVersionPolicy = _message("ModelVersionPolicy")
ModelTransactionPolicy = _message("ModelTransactionPolicy")
ModelResponseCache = _message("ModelResponseCache")
ModelConfig = _message("ModelConfig")
ModelStatisticsRequest = _message("ModelStatisticsRequest")
ModelStatisticsResponse = _message("ModelStatisticsResponse")
StatisticDuration = _message("StatisticDuration")
InferStatistics = _message("InferStatistics")
InferBatchStatistics = _message("InferBatchStatistics")
ModelStatistics = _message("ModelStatistics")
RepositoryIndexRequest = _message("RepositoryIndexRequest")
RepositoryIndexResponse = _message("RepositoryIndexResponse")
RepositoryModelLoadRequest = _message("RepositoryModelLoadRequest")
RepositoryModelLoadResponse = _message("RepositoryModelLoadResponse")
RepositoryModelUnloadRequest = _message("RepositoryModelUnloadRequest")
RepositoryModelUnloadResponse = _message("RepositoryModelUnloadResponse")
