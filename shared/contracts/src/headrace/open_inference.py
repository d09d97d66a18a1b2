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
        "HwodUmVwb3NpdG9yeU1vZGVsVW5sb2FkUmVzcG9uc2UiNQofU3lzdGVtU2hhcmVkTWVtb3J5U3RhdHVzUmVxdWVzdBISCgRuYW1l"
        "GAEgASgJUgRuYW1lItcCCiBTeXN0ZW1TaGFyZWRNZW1vcnlTdGF0dXNSZXNwb25zZRJSCgdyZWdpb25zGAEgAygLMjguaW5mZXJl"
        "bmNlLlN5c3RlbVNoYXJlZE1lbW9yeVN0YXR1c1Jlc3BvbnNlLlJlZ2lvbnNFbnRyeVIHcmVnaW9ucxppCgxSZWdpb25TdGF0dXMS"
        "EgoEbmFtZRgBIAEoCVIEbmFtZRIQCgNrZXkYAiABKAlSA2tleRIWCgZvZmZzZXQYAyABKARSBm9mZnNldBIbCglieXRlX3NpemUY"
        "BCABKARSCGJ5dGVTaXplGnQKDFJlZ2lvbnNFbnRyeRIQCgNrZXkYASABKAlSA2tleRJOCgV2YWx1ZRgCIAEoCzI4LmluZmVyZW5j"
        "ZS5TeXN0ZW1TaGFyZWRNZW1vcnlTdGF0dXNSZXNwb25zZS5SZWdpb25TdGF0dXNSBXZhbHVlOgI4ASJ+CiFTeXN0ZW1TaGFyZWRN"
        "ZW1vcnlSZWdpc3RlclJlcXVlc3QSEgoEbmFtZRgBIAEoCVIEbmFtZRIQCgNrZXkYAiABKAlSA2tleRIWCgZvZmZzZXQYAyABKARS"
        "Bm9mZnNldBIbCglieXRlX3NpemUYBCABKARSCGJ5dGVTaXplIiQKIlN5c3RlbVNoYXJlZE1lbW9yeVJlZ2lzdGVyUmVzcG9uc2Ui"
        "OQojU3lzdGVtU2hhcmVkTWVtb3J5VW5yZWdpc3RlclJlcXVlc3QSEgoEbmFtZRgBIAEoCVIEbmFtZSImCiRTeXN0ZW1TaGFyZWRN"
        "ZW1vcnlVbnJlZ2lzdGVyUmVzcG9uc2UiMwodQ3VkYVNoYXJlZE1lbW9yeVN0YXR1c1JlcXVlc3QSEgoEbmFtZRgBIAEoCVIEbmFt"
        "ZSLEAgoeQ3VkYVNoYXJlZE1lbW9yeVN0YXR1c1Jlc3BvbnNlElAKB3JlZ2lvbnMYASADKAsyNi5pbmZlcmVuY2UuQ3VkYVNoYXJl"
        "ZE1lbW9yeVN0YXR1c1Jlc3BvbnNlLlJlZ2lvbnNFbnRyeVIHcmVnaW9ucxpcCgxSZWdpb25TdGF0dXMSEgoEbmFtZRgBIAEoCVIE"
        "bmFtZRIbCglkZXZpY2VfaWQYAiABKARSCGRldmljZUlkEhsKCWJ5dGVfc2l6ZRgDIAEoBFIIYnl0ZVNpemUacgoMUmVnaW9uc0Vu"
        "dHJ5EhAKA2tleRgBIAEoCVIDa2V5EkwKBXZhbHVlGAIgASgLMjYuaW5mZXJlbmNlLkN1ZGFTaGFyZWRNZW1vcnlTdGF0dXNSZXNw"
        "b25zZS5SZWdpb25TdGF0dXNSBXZhbHVlOgI4ASKOAQofQ3VkYVNoYXJlZE1lbW9yeVJlZ2lzdGVyUmVxdWVzdBISCgRuYW1lGAEg"
        "ASgJUgRuYW1lEh0KCnJhd19oYW5kbGUYAiABKAxSCXJhd0hhbmRsZRIbCglkZXZpY2VfaWQYAyABKANSCGRldmljZUlkEhsKCWJ5"
        "dGVfc2l6ZRgEIAEoBFIIYnl0ZVNpemUiIgogQ3VkYVNoYXJlZE1lbW9yeVJlZ2lzdGVyUmVzcG9uc2UiNwohQ3VkYVNoYXJlZE1l"
        "bW9yeVVucmVnaXN0ZXJSZXF1ZXN0EhIKBG5hbWUYASABKAlSBG5hbWUiJAoiQ3VkYVNoYXJlZE1lbW9yeVVucmVnaXN0ZXJSZXNw"
        "b25zZSKOAgoTVHJhY2VTZXR0aW5nUmVxdWVzdBJICghzZXR0aW5ncxgBIAMoCzIsLmluZmVyZW5jZS5UcmFjZVNldHRpbmdSZXF1"
        "ZXN0LlNldHRpbmdzRW50cnlSCHNldHRpbmdzEh0KCm1vZGVsX25hbWUYAiABKAlSCW1vZGVsTmFtZRokCgxTZXR0aW5nVmFsdWUS"
        "FAoFdmFsdWUYASADKAlSBXZhbHVlGmgKDVNldHRpbmdzRW50cnkSEAoDa2V5GAEgASgJUgNrZXkSQQoFdmFsdWUYAiABKAsyKy5p"
        "bmZlcmVuY2UuVHJhY2VTZXR0aW5nUmVxdWVzdC5TZXR0aW5nVmFsdWVSBXZhbHVlOgI4ASLyAQoUVHJhY2VTZXR0aW5nUmVzcG9u"
        "c2USSQoIc2V0dGluZ3MYASADKAsyLS5pbmZlcmVuY2UuVHJhY2VTZXR0aW5nUmVzcG9uc2UuU2V0dGluZ3NFbnRyeVIIc2V0dGlu"
        "Z3MaJAoMU2V0dGluZ1ZhbHVlEhQKBXZhbHVlGAEgAygJUgV2YWx1ZRppCg1TZXR0aW5nc0VudHJ5EhAKA2tleRgBIAEoCVIDa2V5"
        "EkIKBXZhbHVlGAIgASgLMiwuaW5mZXJlbmNlLlRyYWNlU2V0dGluZ1Jlc3BvbnNlLlNldHRpbmdWYWx1ZVIFdmFsdWU6AjgBItYC"
        "ChJMb2dTZXR0aW5nc1JlcXVlc3QSRwoIc2V0dGluZ3MYASADKAsyKy5pbmZlcmVuY2UuTG9nU2V0dGluZ3NSZXF1ZXN0LlNldHRp"
        "bmdzRW50cnlSCHNldHRpbmdzGo0BCgxTZXR0aW5nVmFsdWUSHwoKYm9vbF9wYXJhbRgBIAEoCEgAUglib29sUGFyYW0SIwoMdWlu"
        "dDMyX3BhcmFtGAIgASgNSABSC3VpbnQzMlBhcmFtEiMKDHN0cmluZ19wYXJhbRgDIAEoCUgAUgtzdHJpbmdQYXJhbUISChBwYXJh"
        "bWV0ZXJfY2hvaWNlGmcKDVNldHRpbmdzRW50cnkSEAoDa2V5GAEgASgJUgNrZXkSQAoFdmFsdWUYAiABKAsyKi5pbmZlcmVuY2Uu"
        "TG9nU2V0dGluZ3NSZXF1ZXN0LlNldHRpbmdWYWx1ZVIFdmFsdWU6AjgBItkCChNMb2dTZXR0aW5nc1Jlc3BvbnNlEkgKCHNldHRp"
        "bmdzGAEgAygLMiwuaW5mZXJlbmNlLkxvZ1NldHRpbmdzUmVzcG9uc2UuU2V0dGluZ3NFbnRyeVIIc2V0dGluZ3MajQEKDFNldHRp"
        "bmdWYWx1ZRIfCgpib29sX3BhcmFtGAEgASgISABSCWJvb2xQYXJhbRIjCgx1aW50MzJfcGFyYW0YAiABKA1IAFILdWludDMyUGFy"
        "YW0SIwoMc3RyaW5nX3BhcmFtGAMgASgJSABSC3N0cmluZ1BhcmFtQhIKEHBhcmFtZXRlcl9jaG9pY2UaaAoNU2V0dGluZ3NFbnRy"
        "eRIQCgNrZXkYASABKAlSA2tleRJBCgV2YWx1ZRgCIAEoCzIrLmluZmVyZW5jZS5Mb2dTZXR0aW5nc1Jlc3BvbnNlLlNldHRpbmdW"
        "YWx1ZVIFdmFsdWU6AjgBKvoBCghEYXRhVHlwZRIQCgxUWVBFX0lOVkFMSUQQABINCglUWVBFX0JPT0wQARIOCgpUWVBFX1VJTlQ4"
        "EAISDwoLVFlQRV9VSU5UMTYQAxIPCgtUWVBFX1VJTlQzMhAEEg8KC1RZUEVfVUlOVDY0EAUSDQoJVFlQRV9JTlQ4EAYSDgoKVFlQ"
        "RV9JTlQxNhAHEg4KClRZUEVfSU5UMzIQCBIOCgpUWVBFX0lOVDY0EAkSDQoJVFlQRV9GUDE2EAoSDQoJVFlQRV9GUDMyEAsSDQoJ"
        "VFlQRV9GUDY0EAwSDwoLVFlQRV9TVFJJTkcQDRINCglUWVBFX0JGMTYQDjK3DwoUR1JQQ0luZmVyZW5jZVNlcnZpY2USSwoKU2Vy"
        "dmVyTGl2ZRIcLmluZmVyZW5jZS5TZXJ2ZXJMaXZlUmVxdWVzdBodLmluZmVyZW5jZS5TZXJ2ZXJMaXZlUmVzcG9uc2UiABJOCgtT"
        "ZXJ2ZXJSZWFkeRIdLmluZmVyZW5jZS5TZXJ2ZXJSZWFkeVJlcXVlc3QaHi5pbmZlcmVuY2UuU2VydmVyUmVhZHlSZXNwb25zZSIA"
        "EksKCk1vZGVsUmVhZHkSHC5pbmZlcmVuY2UuTW9kZWxSZWFkeVJlcXVlc3QaHS5pbmZlcmVuY2UuTW9kZWxSZWFkeVJlc3BvbnNl"
        "IgASVwoOU2VydmVyTWV0YWRhdGESIC5pbmZlcmVuY2UuU2VydmVyTWV0YWRhdGFSZXF1ZXN0GiEuaW5mZXJlbmNlLlNlcnZlck1l"
        "dGFkYXRhUmVzcG9uc2UiABJUCg1Nb2RlbE1ldGFkYXRhEh8uaW5mZXJlbmNlLk1vZGVsTWV0YWRhdGFSZXF1ZXN0GiAuaW5mZXJl"
        "bmNlLk1vZGVsTWV0YWRhdGFSZXNwb25zZSIAEksKCk1vZGVsSW5mZXISHC5pbmZlcmVuY2UuTW9kZWxJbmZlclJlcXVlc3QaHS5p"
        "bmZlcmVuY2UuTW9kZWxJbmZlclJlc3BvbnNlIgASWwoQTW9kZWxTdHJlYW1JbmZlchIcLmluZmVyZW5jZS5Nb2RlbEluZmVyUmVx"
        "dWVzdBojLmluZmVyZW5jZS5Nb2RlbFN0cmVhbUluZmVyUmVzcG9uc2UiACgBMAESTgoLTW9kZWxDb25maWcSHS5pbmZlcmVuY2Uu"
        "TW9kZWxDb25maWdSZXF1ZXN0Gh4uaW5mZXJlbmNlLk1vZGVsQ29uZmlnUmVzcG9uc2UiABJaCg9Nb2RlbFN0YXRpc3RpY3MSIS5p"
        "bmZlcmVuY2UuTW9kZWxTdGF0aXN0aWNzUmVxdWVzdBoiLmluZmVyZW5jZS5Nb2RlbFN0YXRpc3RpY3NSZXNwb25zZSIAEloKD1Jl"
        "cG9zaXRvcnlJbmRleBIhLmluZmVyZW5jZS5SZXBvc2l0b3J5SW5kZXhSZXF1ZXN0GiIuaW5mZXJlbmNlLlJlcG9zaXRvcnlJbmRl"
        "eFJlc3BvbnNlIgASZgoTUmVwb3NpdG9yeU1vZGVsTG9hZBIlLmluZmVyZW5jZS5SZXBvc2l0b3J5TW9kZWxMb2FkUmVxdWVzdBom"
        "LmluZmVyZW5jZS5SZXBvc2l0b3J5TW9kZWxMb2FkUmVzcG9uc2UiABJsChVSZXBvc2l0b3J5TW9kZWxVbmxvYWQSJy5pbmZlcmVu"
        "Y2UuUmVwb3NpdG9yeU1vZGVsVW5sb2FkUmVxdWVzdBooLmluZmVyZW5jZS5SZXBvc2l0b3J5TW9kZWxVbmxvYWRSZXNwb25zZSIA"
        "EnUKGFN5c3RlbVNoYXJlZE1lbW9yeVN0YXR1cxIqLmluZmVyZW5jZS5TeXN0ZW1TaGFyZWRNZW1vcnlTdGF0dXNSZXF1ZXN0Gisu"
        "aW5mZXJlbmNlLlN5c3RlbVNoYXJlZE1lbW9yeVN0YXR1c1Jlc3BvbnNlIgASewoaU3lzdGVtU2hhcmVkTWVtb3J5UmVnaXN0ZXIS"
        "LC5pbmZlcmVuY2UuU3lzdGVtU2hhcmVkTWVtb3J5UmVnaXN0ZXJSZXF1ZXN0Gi0uaW5mZXJlbmNlLlN5c3RlbVNoYXJlZE1lbW9y"
        "eVJlZ2lzdGVyUmVzcG9uc2UiABKBAQocU3lzdGVtU2hhcmVkTWVtb3J5VW5yZWdpc3RlchIuLmluZmVyZW5jZS5TeXN0ZW1TaGFy"
        "ZWRNZW1vcnlVbnJlZ2lzdGVyUmVxdWVzdBovLmluZmVyZW5jZS5TeXN0ZW1TaGFyZWRNZW1vcnlVbnJlZ2lzdGVyUmVzcG9uc2Ui"
        "ABJvChZDdWRhU2hhcmVkTWVtb3J5U3RhdHVzEiguaW5mZXJlbmNlLkN1ZGFTaGFyZWRNZW1vcnlTdGF0dXNSZXF1ZXN0GikuaW5m"
        "ZXJlbmNlLkN1ZGFTaGFyZWRNZW1vcnlTdGF0dXNSZXNwb25zZSIAEnUKGEN1ZGFTaGFyZWRNZW1vcnlSZWdpc3RlchIqLmluZmVy"
        "ZW5jZS5DdWRhU2hhcmVkTWVtb3J5UmVnaXN0ZXJSZXF1ZXN0GisuaW5mZXJlbmNlLkN1ZGFTaGFyZWRNZW1vcnlSZWdpc3RlclJl"
        "c3BvbnNlIgASewoaQ3VkYVNoYXJlZE1lbW9yeVVucmVnaXN0ZXISLC5pbmZlcmVuY2UuQ3VkYVNoYXJlZE1lbW9yeVVucmVnaXN0"
        "ZXJSZXF1ZXN0Gi0uaW5mZXJlbmNlLkN1ZGFTaGFyZWRNZW1vcnlVbnJlZ2lzdGVyUmVzcG9uc2UiABJRCgxUcmFjZVNldHRpbmcS"
        "Hi5pbmZlcmVuY2UuVHJhY2VTZXR0aW5nUmVxdWVzdBofLmluZmVyZW5jZS5UcmFjZVNldHRpbmdSZXNwb25zZSIAEk4KC0xvZ1Nl"
        "dHRpbmdzEh0uaW5mZXJlbmNlLkxvZ1NldHRpbmdzUmVxdWVzdBoeLmluZmVyZW5jZS5Mb2dTZXR0aW5nc1Jlc3BvbnNlIgBiBnBy"
        "b3RvMw=="
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
SystemSharedMemoryStatusRequest = _message("SystemSharedMemoryStatusRequest")
SystemSharedMemoryStatusResponse = _message("SystemSharedMemoryStatusResponse")
SystemSharedMemoryRegisterRequest = _message("SystemSharedMemoryRegisterRequest")
SystemSharedMemoryRegisterResponse = _message("SystemSharedMemoryRegisterResponse")
SystemSharedMemoryUnregisterRequest = _message("SystemSharedMemoryUnregisterRequest")
SystemSharedMemoryUnregisterResponse = _message("SystemSharedMemoryUnregisterResponse")
CudaSharedMemoryStatusRequest = _message("CudaSharedMemoryStatusRequest")
CudaSharedMemoryStatusResponse = _message("CudaSharedMemoryStatusResponse")
CudaSharedMemoryRegisterRequest = _message("CudaSharedMemoryRegisterRequest")
CudaSharedMemoryRegisterResponse = _message("CudaSharedMemoryRegisterResponse")
CudaSharedMemoryUnregisterRequest = _message("CudaSharedMemoryUnregisterRequest")
CudaSharedMemoryUnregisterResponse = _message("CudaSharedMemoryUnregisterResponse")
TraceSettingRequest = _message("TraceSettingRequest")
TraceSettingResponse = _message("TraceSettingResponse")
LogSettingsRequest = _message("LogSettingsRequest")
LogSettingsResponse = _message("LogSettingsResponse")
