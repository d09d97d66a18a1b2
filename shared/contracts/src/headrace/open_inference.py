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
        "dmFsdWU6AjgBIkIKEk1vZGVsQ29uZmlnUmVxdWVzdBISCgRuYW1lGAEgASgJUgRuYW1lEhgKB3ZlcnNpb24YAiABKAlSB3ZlcnNp"
        "b24iRQoTTW9kZWxDb25maWdSZXNwb25zZRIuCgZjb25maWcYASABKAsyFi5pbmZlcmVuY2UuTW9kZWxDb25maWdSBmNvbmZpZyKC"
        "AQoKTW9kZWxJbnB1dBISCgRuYW1lGAEgASgJUgRuYW1lEjAKCWRhdGFfdHlwZRgCIAEoDjITLmluZmVyZW5jZS5EYXRhVHlwZVII"
        "ZGF0YVR5cGUSEgoEZGltcxgEIAMoA1IEZGltcxIaCghvcHRpb25hbBgIIAEoCFIIb3B0aW9uYWwiZwoLTW9kZWxPdXRwdXQSEgoE"
        "bmFtZRgBIAEoCVIEbmFtZRIwCglkYXRhX3R5cGUYAiABKA4yEy5pbmZlcmVuY2UuRGF0YVR5cGVSCGRhdGFUeXBlEhIKBGRpbXMY"
        "AyADKANSBGRpbXMiuQEKEk1vZGVsSW5zdGFuY2VHcm91cBISCgRuYW1lGAEgASgJUgRuYW1lEhQKBWNvdW50GAIgASgFUgVjb3Vu"
        "dBI2CgRraW5kGAQgASgOMiIuaW5mZXJlbmNlLk1vZGVsSW5zdGFuY2VHcm91cC5LaW5kUgRraW5kIkEKBEtpbmQSDQoJS0lORF9B"
        "VVRPEAASDAoIS0lORF9HUFUQARIMCghLSU5EX0NQVRACEg4KCktJTkRfTU9ERUwQAyKAAQoSTW9kZWxWZXJzaW9uUG9saWN5EkIK"
        "CHNwZWNpZmljGAMgASgLMiYuaW5mZXJlbmNlLk1vZGVsVmVyc2lvblBvbGljeS5TcGVjaWZpY1IIc3BlY2lmaWMaJgoIU3BlY2lm"
        "aWMSGgoIdmVyc2lvbnMYASADKANSCHZlcnNpb25zIjYKFk1vZGVsVHJhbnNhY3Rpb25Qb2xpY3kSHAoJZGVjb3VwbGVkGAEgASgI"
        "UglkZWNvdXBsZWQiLAoSTW9kZWxSZXNwb25zZUNhY2hlEhYKBmVuYWJsZRgBIAEoCFIGZW5hYmxlIokECgtNb2RlbENvbmZpZxIS"
        "CgRuYW1lGAEgASgJUgRuYW1lEhoKCHBsYXRmb3JtGAIgASgJUghwbGF0Zm9ybRJECg52ZXJzaW9uX3BvbGljeRgDIAEoCzIdLmlu"
        "ZmVyZW5jZS5Nb2RlbFZlcnNpb25Qb2xpY3lSDXZlcnNpb25Qb2xpY3kSJAoObWF4X2JhdGNoX3NpemUYBCABKAVSDG1heEJhdGNo"
        "U2l6ZRIrCgVpbnB1dBgFIAMoCzIVLmluZmVyZW5jZS5Nb2RlbElucHV0UgVpbnB1dBIuCgZvdXRwdXQYBiADKAsyFi5pbmZlcmVu"
        "Y2UuTW9kZWxPdXRwdXRSBm91dHB1dBJECg5pbnN0YW5jZV9ncm91cBgHIAMoCzIdLmluZmVyZW5jZS5Nb2RlbEluc3RhbmNlR3Jv"
        "dXBSDWluc3RhbmNlR3JvdXASGAoHYmFja2VuZBgRIAEoCVIHYmFja2VuZBJbChhtb2RlbF90cmFuc2FjdGlvbl9wb2xpY3kYEyAB"
        "KAsyIS5pbmZlcmVuY2UuTW9kZWxUcmFuc2FjdGlvblBvbGljeVIWbW9kZWxUcmFuc2FjdGlvblBvbGljeRJECg5yZXNwb25zZV9j"
        "YWNoZRgYIAEoCzIdLmluZmVyZW5jZS5Nb2RlbFJlc3BvbnNlQ2FjaGVSDXJlc3BvbnNlQ2FjaGUiRgoWTW9kZWxTdGF0aXN0aWNz"
        "UmVxdWVzdBISCgRuYW1lGAEgASgJUgRuYW1lEhgKB3ZlcnNpb24YAiABKAlSB3ZlcnNpb24iVgoXTW9kZWxTdGF0aXN0aWNzUmVz"
        "cG9uc2USOwoLbW9kZWxfc3RhdHMYASADKAsyGi5pbmZlcmVuY2UuTW9kZWxTdGF0aXN0aWNzUgptb2RlbFN0YXRzIjkKEVN0YXRp"
        "c3RpY0R1cmF0aW9uEhQKBWNvdW50GAEgASgEUgVjb3VudBIOCgJucxgCIAEoBFICbnMi8gMKD0luZmVyU3RhdGlzdGljcxI2Cgdz"
        "dWNjZXNzGAEgASgLMhwuaW5mZXJlbmNlLlN0YXRpc3RpY0R1cmF0aW9uUgdzdWNjZXNzEjAKBGZhaWwYAiABKAsyHC5pbmZlcmVu"
        "Y2UuU3RhdGlzdGljRHVyYXRpb25SBGZhaWwSMgoFcXVldWUYAyABKAsyHC5pbmZlcmVuY2UuU3RhdGlzdGljRHVyYXRpb25SBXF1"
        "ZXVlEkEKDWNvbXB1dGVfaW5wdXQYBCABKAsyHC5pbmZlcmVuY2UuU3RhdGlzdGljRHVyYXRpb25SDGNvbXB1dGVJbnB1dBJBCg1j"
        "b21wdXRlX2luZmVyGAUgASgLMhwuaW5mZXJlbmNlLlN0YXRpc3RpY0R1cmF0aW9uUgxjb21wdXRlSW5mZXISQwoOY29tcHV0ZV9v"
        "dXRwdXQYBiABKAsyHC5pbmZlcmVuY2UuU3RhdGlzdGljRHVyYXRpb25SDWNvbXB1dGVPdXRwdXQSOQoJY2FjaGVfaGl0GAcgASgL"
        "MhwuaW5mZXJlbmNlLlN0YXRpc3RpY0R1cmF0aW9uUghjYWNoZUhpdBI7CgpjYWNoZV9taXNzGAggASgLMhwuaW5mZXJlbmNlLlN0"
        "YXRpc3RpY0R1cmF0aW9uUgljYWNoZU1pc3MigAIKFEluZmVyQmF0Y2hTdGF0aXN0aWNzEh0KCmJhdGNoX3NpemUYASABKARSCWJh"
        "dGNoU2l6ZRJBCg1jb21wdXRlX2lucHV0GAIgASgLMhwuaW5mZXJlbmNlLlN0YXRpc3RpY0R1cmF0aW9uUgxjb21wdXRlSW5wdXQS"
        "QQoNY29tcHV0ZV9pbmZlchgDIAEoCzIcLmluZmVyZW5jZS5TdGF0aXN0aWNEdXJhdGlvblIMY29tcHV0ZUluZmVyEkMKDmNvbXB1"
        "dGVfb3V0cHV0GAQgASgLMhwuaW5mZXJlbmNlLlN0YXRpc3RpY0R1cmF0aW9uUg1jb21wdXRlT3V0cHV0Ir8CCg9Nb2RlbFN0YXRp"
        "c3RpY3MSEgoEbmFtZRgBIAEoCVIEbmFtZRIYCgd2ZXJzaW9uGAIgASgJUgd2ZXJzaW9uEiUKDmxhc3RfaW5mZXJlbmNlGAMgASgE"
        "Ug1sYXN0SW5mZXJlbmNlEicKD2luZmVyZW5jZV9jb3VudBgEIAEoBFIOaW5mZXJlbmNlQ291bnQSJwoPZXhlY3V0aW9uX2NvdW50"
        "GAUgASgEUg5leGVjdXRpb25Db3VudBJDCg9pbmZlcmVuY2Vfc3RhdHMYBiABKAsyGi5pbmZlcmVuY2UuSW5mZXJTdGF0aXN0aWNz"
        "Ug5pbmZlcmVuY2VTdGF0cxJACgtiYXRjaF9zdGF0cxgHIAMoCzIfLmluZmVyZW5jZS5JbmZlckJhdGNoU3RhdGlzdGljc1IKYmF0"
        "Y2hTdGF0cyJXChZSZXBvc2l0b3J5SW5kZXhSZXF1ZXN0EicKD3JlcG9zaXRvcnlfbmFtZRgBIAEoCVIOcmVwb3NpdG9yeU5hbWUS"
        "FAoFcmVhZHkYAiABKAhSBXJlYWR5IsoBChdSZXBvc2l0b3J5SW5kZXhSZXNwb25zZRJFCgZtb2RlbHMYASADKAsyLS5pbmZlcmVu"
        "Y2UuUmVwb3NpdG9yeUluZGV4UmVzcG9uc2UuTW9kZWxJbmRleFIGbW9kZWxzGmgKCk1vZGVsSW5kZXgSEgoEbmFtZRgBIAEoCVIE"
        "bmFtZRIYCgd2ZXJzaW9uGAIgASgJUgd2ZXJzaW9uEhQKBXN0YXRlGAMgASgJUgVzdGF0ZRIWCgZyZWFzb24YBCABKAlSBnJlYXNv"
        "biJkChpSZXBvc2l0b3J5TW9kZWxMb2FkUmVxdWVzdBInCg9yZXBvc2l0b3J5X25hbWUYASABKAlSDnJlcG9zaXRvcnlOYW1lEh0K"
        "Cm1vZGVsX25hbWUYAiABKAlSCW1vZGVsTmFtZSIdChtSZXBvc2l0b3J5TW9kZWxMb2FkUmVzcG9uc2UiZgocUmVwb3NpdG9yeU1v"
        "ZGVsVW5sb2FkUmVxdWVzdBInCg9yZXBvc2l0b3J5X25hbWUYASABKAlSDnJlcG9zaXRvcnlOYW1lEh0KCm1vZGVsX25hbWUYAiAB"
        "KAlSCW1vZGVsTmFtZSIfCh1SZXBvc2l0b3J5TW9kZWxVbmxvYWRSZXNwb25zZSr6AQoIRGF0YVR5cGUSEAoMVFlQRV9JTlZBTElE"
        "EAASDQoJVFlQRV9CT09MEAESDgoKVFlQRV9VSU5UOBACEg8KC1RZUEVfVUlOVDE2EAMSDwoLVFlQRV9VSU5UMzIQBBIPCgtUWVBF"
        "X1VJTlQ2NBAFEg0KCVRZUEVfSU5UOBAGEg4KClRZUEVfSU5UMTYQBxIOCgpUWVBFX0lOVDMyEAgSDgoKVFlQRV9JTlQ2NBAJEg0K"
        "CVRZUEVfRlAxNhAKEg0KCVRZUEVfRlAzMhALEg0KCVRZUEVfRlA2NBAMEg8KC1RZUEVfU1RSSU5HEA0SDQoJVFlQRV9CRjE2EA4y"
        "2gcKFEdSUENJbmZlcmVuY2VTZXJ2aWNlEksKClNlcnZlckxpdmUSHC5pbmZlcmVuY2UuU2VydmVyTGl2ZVJlcXVlc3QaHS5pbmZl"
        "cmVuY2UuU2VydmVyTGl2ZVJlc3BvbnNlIgASTgoLU2VydmVyUmVhZHkSHS5pbmZlcmVuY2UuU2VydmVyUmVhZHlSZXF1ZXN0Gh4u"
        "aW5mZXJlbmNlLlNlcnZlclJlYWR5UmVzcG9uc2UiABJLCgpNb2RlbFJlYWR5EhwuaW5mZXJlbmNlLk1vZGVsUmVhZHlSZXF1ZXN0"
        "Gh0uaW5mZXJlbmNlLk1vZGVsUmVhZHlSZXNwb25zZSIAElcKDlNlcnZlck1ldGFkYXRhEiAuaW5mZXJlbmNlLlNlcnZlck1ldGFk"
        "YXRhUmVxdWVzdBohLmluZmVyZW5jZS5TZXJ2ZXJNZXRhZGF0YVJlc3BvbnNlIgASVAoNTW9kZWxNZXRhZGF0YRIfLmluZmVyZW5j"
        "ZS5Nb2RlbE1ldGFkYXRhUmVxdWVzdBogLmluZmVyZW5jZS5Nb2RlbE1ldGFkYXRhUmVzcG9uc2UiABJLCgpNb2RlbEluZmVyEhwu"
        "aW5mZXJlbmNlLk1vZGVsSW5mZXJSZXF1ZXN0Gh0uaW5mZXJlbmNlLk1vZGVsSW5mZXJSZXNwb25zZSIAEk4KC01vZGVsQ29uZmln"
        "Eh0uaW5mZXJlbmNlLk1vZGVsQ29uZmlnUmVxdWVzdBoeLmluZmVyZW5jZS5Nb2RlbENvbmZpZ1Jlc3BvbnNlIgASWgoPTW9kZWxT"
        "dGF0aXN0aWNzEiEuaW5mZXJlbmNlLk1vZGVsU3RhdGlzdGljc1JlcXVlc3QaIi5pbmZlcmVuY2UuTW9kZWxTdGF0aXN0aWNzUmVz"
        "cG9uc2UiABJaCg9SZXBvc2l0b3J5SW5kZXgSIS5pbmZlcmVuY2UuUmVwb3NpdG9yeUluZGV4UmVxdWVzdBoiLmluZmVyZW5jZS5S"
        "ZXBvc2l0b3J5SW5kZXhSZXNwb25zZSIAEmYKE1JlcG9zaXRvcnlNb2RlbExvYWQSJS5pbmZlcmVuY2UuUmVwb3NpdG9yeU1vZGVs"
        "TG9hZFJlcXVlc3QaJi5pbmZlcmVuY2UuUmVwb3NpdG9yeU1vZGVsTG9hZFJlc3BvbnNlIgASbAoVUmVwb3NpdG9yeU1vZGVsVW5s"
        "b2FkEicuaW5mZXJlbmNlLlJlcG9zaXRvcnlNb2RlbFVubG9hZFJlcXVlc3QaKC5pbmZlcmVuY2UuUmVwb3NpdG9yeU1vZGVsVW5s"
        "b2FkUmVzcG9uc2UiAGIGcHJvdG8z"
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
