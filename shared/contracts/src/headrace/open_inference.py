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
        "CVIEbmFtZRIYCgd2ZXJzaW9uGAIgASgJUgd2ZXJzaW9uIosEChVNb2RlbE1ldGFkYXRhUmVzcG9uc2USEgoEbmFtZRgBIAEoCVIE"
        "bmFtZRIaCgh2ZXJzaW9ucxgCIAMoCVIIdmVyc2lvbnMSGgoIcGxhdGZvcm0YAyABKAlSCHBsYXRmb3JtEkcKBmlucHV0cxgEIAMo"
        "CzIvLmluZmVyZW5jZS5Nb2RlbE1ldGFkYXRhUmVzcG9uc2UuVGVuc29yTWV0YWRhdGFSBmlucHV0cxJJCgdvdXRwdXRzGAUgAygL"
        "Mi8uaW5mZXJlbmNlLk1vZGVsTWV0YWRhdGFSZXNwb25zZS5UZW5zb3JNZXRhZGF0YVIHb3V0cHV0cxqRAgoOVGVuc29yTWV0YWRh"
        "dGESEgoEbmFtZRgBIAEoCVIEbmFtZRIaCghkYXRhdHlwZRgCIAEoCVIIZGF0YXR5cGUSFAoFc2hhcGUYAyADKANSBXNoYXBlEl8K"
        "CnBhcmFtZXRlcnMYBCADKAsyPy5pbmZlcmVuY2UuTW9kZWxNZXRhZGF0YVJlc3BvbnNlLlRlbnNvck1ldGFkYXRhLlBhcmFtZXRl"
        "cnNFbnRyeVIKcGFyYW1ldGVycxpYCg9QYXJhbWV0ZXJzRW50cnkSEAoDa2V5GAEgASgJUgNrZXkSLwoFdmFsdWUYAiABKAsyGS5p"
        "bmZlcmVuY2UuSW5mZXJQYXJhbWV0ZXJSBXZhbHVlOgI4ASLXAQoOSW5mZXJQYXJhbWV0ZXISHwoKYm9vbF9wYXJhbRgBIAEoCEgA"
        "Uglib29sUGFyYW0SIQoLaW50NjRfcGFyYW0YAiABKANIAFIKaW50NjRQYXJhbRIjCgxzdHJpbmdfcGFyYW0YAyABKAlIAFILc3Ry"
        "aW5nUGFyYW0SIwoMZG91YmxlX3BhcmFtGAQgASgBSABSC2RvdWJsZVBhcmFtEiMKDHVpbnQ2NF9wYXJhbRgFIAEoBEgAUgt1aW50"
        "NjRQYXJhbUISChBwYXJhbWV0ZXJfY2hvaWNlIsMCChNJbmZlclRlbnNvckNvbnRlbnRzEiMKDWJvb2xfY29udGVudHMYASADKAhS"
        "DGJvb2xDb250ZW50cxIhCgxpbnRfY29udGVudHMYAiADKAVSC2ludENvbnRlbnRzEiUKDmludDY0X2NvbnRlbnRzGAMgAygDUg1p"
        "bnQ2NENvbnRlbnRzEiMKDXVpbnRfY29udGVudHMYBCADKA1SDHVpbnRDb250ZW50cxInCg91aW50NjRfY29udGVudHMYBSADKARS"
        "DnVpbnQ2NENvbnRlbnRzEiMKDWZwMzJfY29udGVudHMYBiADKAJSDGZwMzJDb250ZW50cxIjCg1mcDY0X2NvbnRlbnRzGAcgAygB"
        "UgxmcDY0Q29udGVudHMSJQoOYnl0ZXNfY29udGVudHMYCCADKAxSDWJ5dGVzQ29udGVudHMinQgKEU1vZGVsSW5mZXJSZXF1ZXN0"
        "Eh0KCm1vZGVsX25hbWUYASABKAlSCW1vZGVsTmFtZRIjCg1tb2RlbF92ZXJzaW9uGAIgASgJUgxtb2RlbFZlcnNpb24SDgoCaWQY"
        "AyABKAlSAmlkEkwKCnBhcmFtZXRlcnMYBCADKAsyLC5pbmZlcmVuY2UuTW9kZWxJbmZlclJlcXVlc3QuUGFyYW1ldGVyc0VudHJ5"
        "UgpwYXJhbWV0ZXJzEkUKBmlucHV0cxgFIAMoCzItLmluZmVyZW5jZS5Nb2RlbEluZmVyUmVxdWVzdC5JbmZlcklucHV0VGVuc29y"
        "UgZpbnB1dHMSUQoHb3V0cHV0cxgGIAMoCzI3LmluZmVyZW5jZS5Nb2RlbEluZmVyUmVxdWVzdC5JbmZlclJlcXVlc3RlZE91dHB1"
        "dFRlbnNvclIHb3V0cHV0cxIsChJyYXdfaW5wdXRfY29udGVudHMYByADKAxSEHJhd0lucHV0Q29udGVudHMazQIKEEluZmVySW5w"
        "dXRUZW5zb3ISEgoEbmFtZRgBIAEoCVIEbmFtZRIaCghkYXRhdHlwZRgCIAEoCVIIZGF0YXR5cGUSFAoFc2hhcGUYAyADKANSBXNo"
        "YXBlEl0KCnBhcmFtZXRlcnMYBCADKAsyPS5pbmZlcmVuY2UuTW9kZWxJbmZlclJlcXVlc3QuSW5mZXJJbnB1dFRlbnNvci5QYXJh"
        "bWV0ZXJzRW50cnlSCnBhcmFtZXRlcnMSOgoIY29udGVudHMYBSABKAsyHi5pbmZlcmVuY2UuSW5mZXJUZW5zb3JDb250ZW50c1II"
        "Y29udGVudHMaWAoPUGFyYW1ldGVyc0VudHJ5EhAKA2tleRgBIAEoCVIDa2V5Ei8KBXZhbHVlGAIgASgLMhkuaW5mZXJlbmNlLklu"
        "ZmVyUGFyYW1ldGVyUgV2YWx1ZToCOAEa8wEKGkluZmVyUmVxdWVzdGVkT3V0cHV0VGVuc29yEhIKBG5hbWUYASABKAlSBG5hbWUS"
        "ZwoKcGFyYW1ldGVycxgCIAMoCzJHLmluZmVyZW5jZS5Nb2RlbEluZmVyUmVxdWVzdC5JbmZlclJlcXVlc3RlZE91dHB1dFRlbnNv"
        "ci5QYXJhbWV0ZXJzRW50cnlSCnBhcmFtZXRlcnMaWAoPUGFyYW1ldGVyc0VudHJ5EhAKA2tleRgBIAEoCVIDa2V5Ei8KBXZhbHVl"
        "GAIgASgLMhkuaW5mZXJlbmNlLkluZmVyUGFyYW1ldGVyUgV2YWx1ZToCOAEaWAoPUGFyYW1ldGVyc0VudHJ5EhAKA2tleRgBIAEo"
        "CVIDa2V5Ei8KBXZhbHVlGAIgASgLMhkuaW5mZXJlbmNlLkluZmVyUGFyYW1ldGVyUgV2YWx1ZToCOAEi3wUKEk1vZGVsSW5mZXJS"
        "ZXNwb25zZRIdCgptb2RlbF9uYW1lGAEgASgJUgltb2RlbE5hbWUSIwoNbW9kZWxfdmVyc2lvbhgCIAEoCVIMbW9kZWxWZXJzaW9u"
        "Eg4KAmlkGAMgASgJUgJpZBJNCgpwYXJhbWV0ZXJzGAQgAygLMi0uaW5mZXJlbmNlLk1vZGVsSW5mZXJSZXNwb25zZS5QYXJhbWV0"
        "ZXJzRW50cnlSCnBhcmFtZXRlcnMSSQoHb3V0cHV0cxgFIAMoCzIvLmluZmVyZW5jZS5Nb2RlbEluZmVyUmVzcG9uc2UuSW5mZXJP"
        "dXRwdXRUZW5zb3JSB291dHB1dHMSLgoTcmF3X291dHB1dF9jb250ZW50cxgGIAMoDFIRcmF3T3V0cHV0Q29udGVudHMa0AIKEUlu"
        "ZmVyT3V0cHV0VGVuc29yEhIKBG5hbWUYASABKAlSBG5hbWUSGgoIZGF0YXR5cGUYAiABKAlSCGRhdGF0eXBlEhQKBXNoYXBlGAMg"
        "AygDUgVzaGFwZRJfCgpwYXJhbWV0ZXJzGAQgAygLMj8uaW5mZXJlbmNlLk1vZGVsSW5mZXJSZXNwb25zZS5JbmZlck91dHB1dFRl"
        "bnNvci5QYXJhbWV0ZXJzRW50cnlSCnBhcmFtZXRlcnMSOgoIY29udGVudHMYBSABKAsyHi5pbmZlcmVuY2UuSW5mZXJUZW5zb3JD"
        "b250ZW50c1IIY29udGVudHMaWAoPUGFyYW1ldGVyc0VudHJ5EhAKA2tleRgBIAEoCVIDa2V5Ei8KBXZhbHVlGAIgASgLMhkuaW5m"
        "ZXJlbmNlLkluZmVyUGFyYW1ldGVyUgV2YWx1ZToCOAEaWAoPUGFyYW1ldGVyc0VudHJ5EhAKA2tleRgBIAEoCVIDa2V5Ei8KBXZh"
        "bHVlGAIgASgLMhkuaW5mZXJlbmNlLkluZmVyUGFyYW1ldGVyUgV2YWx1ZToCOAEihQEKGE1vZGVsU3RyZWFtSW5mZXJSZXNwb25z"
        "ZRIjCg1lcnJvcl9tZXNzYWdlGAEgASgJUgxlcnJvck1lc3NhZ2USRAoOaW5mZXJfcmVzcG9uc2UYAiABKAsyHS5pbmZlcmVuY2Uu"
        "TW9kZWxJbmZlclJlc3BvbnNlUg1pbmZlclJlc3BvbnNlIkIKEk1vZGVsQ29uZmlnUmVxdWVzdBISCgRuYW1lGAEgASgJUgRuYW1l"
        "EhgKB3ZlcnNpb24YAiABKAlSB3ZlcnNpb24iRQoTTW9kZWxDb25maWdSZXNwb25zZRIuCgZjb25maWcYASABKAsyFi5pbmZlcmVu"
        "Y2UuTW9kZWxDb25maWdSBmNvbmZpZyKCAQoKTW9kZWxJbnB1dBISCgRuYW1lGAEgASgJUgRuYW1lEjAKCWRhdGFfdHlwZRgCIAEo"
        "DjITLmluZmVyZW5jZS5EYXRhVHlwZVIIZGF0YVR5cGUSEgoEZGltcxgEIAMoA1IEZGltcxIaCghvcHRpb25hbBgIIAEoCFIIb3B0"
        "aW9uYWwiZwoLTW9kZWxPdXRwdXQSEgoEbmFtZRgBIAEoCVIEbmFtZRIwCglkYXRhX3R5cGUYAiABKA4yEy5pbmZlcmVuY2UuRGF0"
        "YVR5cGVSCGRhdGFUeXBlEhIKBGRpbXMYAyADKANSBGRpbXMiuQEKEk1vZGVsSW5zdGFuY2VHcm91cBISCgRuYW1lGAEgASgJUgRu"
        "YW1lEhQKBWNvdW50GAIgASgFUgVjb3VudBI2CgRraW5kGAQgASgOMiIuaW5mZXJlbmNlLk1vZGVsSW5zdGFuY2VHcm91cC5LaW5k"
        "UgRraW5kIkEKBEtpbmQSDQoJS0lORF9BVVRPEAASDAoIS0lORF9HUFUQARIMCghLSU5EX0NQVRACEg4KCktJTkRfTU9ERUwQAyKA"
        "AQoSTW9kZWxWZXJzaW9uUG9saWN5EkIKCHNwZWNpZmljGAMgASgLMiYuaW5mZXJlbmNlLk1vZGVsVmVyc2lvblBvbGljeS5TcGVj"
        "aWZpY1IIc3BlY2lmaWMaJgoIU3BlY2lmaWMSGgoIdmVyc2lvbnMYASADKANSCHZlcnNpb25zIjYKFk1vZGVsVHJhbnNhY3Rpb25Q"
        "b2xpY3kSHAoJZGVjb3VwbGVkGAEgASgIUglkZWNvdXBsZWQiLAoSTW9kZWxSZXNwb25zZUNhY2hlEhYKBmVuYWJsZRgBIAEoCFIG"
        "ZW5hYmxlIokECgtNb2RlbENvbmZpZxISCgRuYW1lGAEgASgJUgRuYW1lEhoKCHBsYXRmb3JtGAIgASgJUghwbGF0Zm9ybRJECg52"
        "ZXJzaW9uX3BvbGljeRgDIAEoCzIdLmluZmVyZW5jZS5Nb2RlbFZlcnNpb25Qb2xpY3lSDXZlcnNpb25Qb2xpY3kSJAoObWF4X2Jh"
        "dGNoX3NpemUYBCABKAVSDG1heEJhdGNoU2l6ZRIrCgVpbnB1dBgFIAMoCzIVLmluZmVyZW5jZS5Nb2RlbElucHV0UgVpbnB1dBIu"
        "CgZvdXRwdXQYBiADKAsyFi5pbmZlcmVuY2UuTW9kZWxPdXRwdXRSBm91dHB1dBJECg5pbnN0YW5jZV9ncm91cBgHIAMoCzIdLmlu"
        "ZmVyZW5jZS5Nb2RlbEluc3RhbmNlR3JvdXBSDWluc3RhbmNlR3JvdXASGAoHYmFja2VuZBgRIAEoCVIHYmFja2VuZBJbChhtb2Rl"
        "bF90cmFuc2FjdGlvbl9wb2xpY3kYEyABKAsyIS5pbmZlcmVuY2UuTW9kZWxUcmFuc2FjdGlvblBvbGljeVIWbW9kZWxUcmFuc2Fj"
        "dGlvblBvbGljeRJECg5yZXNwb25zZV9jYWNoZRgYIAEoCzIdLmluZmVyZW5jZS5Nb2RlbFJlc3BvbnNlQ2FjaGVSDXJlc3BvbnNl"
        "Q2FjaGUiRgoWTW9kZWxTdGF0aXN0aWNzUmVxdWVzdBISCgRuYW1lGAEgASgJUgRuYW1lEhgKB3ZlcnNpb24YAiABKAlSB3ZlcnNp"
        "b24iVgoXTW9kZWxTdGF0aXN0aWNzUmVzcG9uc2USOwoLbW9kZWxfc3RhdHMYASADKAsyGi5pbmZlcmVuY2UuTW9kZWxTdGF0aXN0"
        "aWNzUgptb2RlbFN0YXRzIjkKEVN0YXRpc3RpY0R1cmF0aW9uEhQKBWNvdW50GAEgASgEUgVjb3VudBIOCgJucxgCIAEoBFICbnMi"
        "8gMKD0luZmVyU3RhdGlzdGljcxI2CgdzdWNjZXNzGAEgASgLMhwuaW5mZXJlbmNlLlN0YXRpc3RpY0R1cmF0aW9uUgdzdWNjZXNz"
        "EjAKBGZhaWwYAiABKAsyHC5pbmZlcmVuY2UuU3RhdGlzdGljRHVyYXRpb25SBGZhaWwSMgoFcXVldWUYAyABKAsyHC5pbmZlcmVu"
        "Y2UuU3RhdGlzdGljRHVyYXRpb25SBXF1ZXVlEkEKDWNvbXB1dGVfaW5wdXQYBCABKAsyHC5pbmZlcmVuY2UuU3RhdGlzdGljRHVy"
        "YXRpb25SDGNvbXB1dGVJbnB1dBJBCg1jb21wdXRlX2luZmVyGAUgASgLMhwuaW5mZXJlbmNlLlN0YXRpc3RpY0R1cmF0aW9uUgxj"
        "b21wdXRlSW5mZXISQwoOY29tcHV0ZV9vdXRwdXQYBiABKAsyHC5pbmZlcmVuY2UuU3RhdGlzdGljRHVyYXRpb25SDWNvbXB1dGVP"
        "dXRwdXQSOQoJY2FjaGVfaGl0GAcgASgLMhwuaW5mZXJlbmNlLlN0YXRpc3RpY0R1cmF0aW9uUghjYWNoZUhpdBI7CgpjYWNoZV9t"
        "aXNzGAggASgLMhwuaW5mZXJlbmNlLlN0YXRpc3RpY0R1cmF0aW9uUgljYWNoZU1pc3MigAIKFEluZmVyQmF0Y2hTdGF0aXN0aWNz"
        "Eh0KCmJhdGNoX3NpemUYASABKARSCWJhdGNoU2l6ZRJBCg1jb21wdXRlX2lucHV0GAIgASgLMhwuaW5mZXJlbmNlLlN0YXRpc3Rp"
        "Y0R1cmF0aW9uUgxjb21wdXRlSW5wdXQSQQoNY29tcHV0ZV9pbmZlchgDIAEoCzIcLmluZmVyZW5jZS5TdGF0aXN0aWNEdXJhdGlv"
        "blIMY29tcHV0ZUluZmVyEkMKDmNvbXB1dGVfb3V0cHV0GAQgASgLMhwuaW5mZXJlbmNlLlN0YXRpc3RpY0R1cmF0aW9uUg1jb21w"
        "dXRlT3V0cHV0Ir8CCg9Nb2RlbFN0YXRpc3RpY3MSEgoEbmFtZRgBIAEoCVIEbmFtZRIYCgd2ZXJzaW9uGAIgASgJUgd2ZXJzaW9u"
        "EiUKDmxhc3RfaW5mZXJlbmNlGAMgASgEUg1sYXN0SW5mZXJlbmNlEicKD2luZmVyZW5jZV9jb3VudBgEIAEoBFIOaW5mZXJlbmNl"
        "Q291bnQSJwoPZXhlY3V0aW9uX2NvdW50GAUgASgEUg5leGVjdXRpb25Db3VudBJDCg9pbmZlcmVuY2Vfc3RhdHMYBiABKAsyGi5p"
        "bmZlcmVuY2UuSW5mZXJTdGF0aXN0aWNzUg5pbmZlcmVuY2VTdGF0cxJACgtiYXRjaF9zdGF0cxgHIAMoCzIfLmluZmVyZW5jZS5J"
        "bmZlckJhdGNoU3RhdGlzdGljc1IKYmF0Y2hTdGF0cyJXChZSZXBvc2l0b3J5SW5kZXhSZXF1ZXN0EicKD3JlcG9zaXRvcnlfbmFt"
        "ZRgBIAEoCVIOcmVwb3NpdG9yeU5hbWUSFAoFcmVhZHkYAiABKAhSBXJlYWR5IsoBChdSZXBvc2l0b3J5SW5kZXhSZXNwb25zZRJF"
        "CgZtb2RlbHMYASADKAsyLS5pbmZlcmVuY2UuUmVwb3NpdG9yeUluZGV4UmVzcG9uc2UuTW9kZWxJbmRleFIGbW9kZWxzGmgKCk1v"
        "ZGVsSW5kZXgSEgoEbmFtZRgBIAEoCVIEbmFtZRIYCgd2ZXJzaW9uGAIgASgJUgd2ZXJzaW9uEhQKBXN0YXRlGAMgASgJUgVzdGF0"
        "ZRIWCgZyZWFzb24YBCABKAlSBnJlYXNvbiJkChpSZXBvc2l0b3J5TW9kZWxMb2FkUmVxdWVzdBInCg9yZXBvc2l0b3J5X25hbWUY"
        "ASABKAlSDnJlcG9zaXRvcnlOYW1lEh0KCm1vZGVsX25hbWUYAiABKAlSCW1vZGVsTmFtZSIdChtSZXBvc2l0b3J5TW9kZWxMb2Fk"
        "UmVzcG9uc2UiZgocUmVwb3NpdG9yeU1vZGVsVW5sb2FkUmVxdWVzdBInCg9yZXBvc2l0b3J5X25hbWUYASABKAlSDnJlcG9zaXRv"
        "cnlOYW1lEh0KCm1vZGVsX25hbWUYAiABKAlSCW1vZGVsTmFtZSIfCh1SZXBvc2l0b3J5TW9kZWxVbmxvYWRSZXNwb25zZSI1Ch9T"
        "eXN0ZW1TaGFyZWRNZW1vcnlTdGF0dXNSZXF1ZXN0EhIKBG5hbWUYASABKAlSBG5hbWUi1wIKIFN5c3RlbVNoYXJlZE1lbW9yeVN0"
        "YXR1c1Jlc3BvbnNlElIKB3JlZ2lvbnMYASADKAsyOC5pbmZlcmVuY2UuU3lzdGVtU2hhcmVkTWVtb3J5U3RhdHVzUmVzcG9uc2Uu"
        "UmVnaW9uc0VudHJ5UgdyZWdpb25zGmkKDFJlZ2lvblN0YXR1cxISCgRuYW1lGAEgASgJUgRuYW1lEhAKA2tleRgCIAEoCVIDa2V5"
        "EhYKBm9mZnNldBgDIAEoBFIGb2Zmc2V0EhsKCWJ5dGVfc2l6ZRgEIAEoBFIIYnl0ZVNpemUadAoMUmVnaW9uc0VudHJ5EhAKA2tl"
        "eRgBIAEoCVIDa2V5Ek4KBXZhbHVlGAIgASgLMjguaW5mZXJlbmNlLlN5c3RlbVNoYXJlZE1lbW9yeVN0YXR1c1Jlc3BvbnNlLlJl"
        "Z2lvblN0YXR1c1IFdmFsdWU6AjgBIn4KIVN5c3RlbVNoYXJlZE1lbW9yeVJlZ2lzdGVyUmVxdWVzdBISCgRuYW1lGAEgASgJUgRu"
        "YW1lEhAKA2tleRgCIAEoCVIDa2V5EhYKBm9mZnNldBgDIAEoBFIGb2Zmc2V0EhsKCWJ5dGVfc2l6ZRgEIAEoBFIIYnl0ZVNpemUi"
        "JAoiU3lzdGVtU2hhcmVkTWVtb3J5UmVnaXN0ZXJSZXNwb25zZSI5CiNTeXN0ZW1TaGFyZWRNZW1vcnlVbnJlZ2lzdGVyUmVxdWVz"
        "dBISCgRuYW1lGAEgASgJUgRuYW1lIiYKJFN5c3RlbVNoYXJlZE1lbW9yeVVucmVnaXN0ZXJSZXNwb25zZSIzCh1DdWRhU2hhcmVk"
        "TWVtb3J5U3RhdHVzUmVxdWVzdBISCgRuYW1lGAEgASgJUgRuYW1lIsQCCh5DdWRhU2hhcmVkTWVtb3J5U3RhdHVzUmVzcG9uc2US"
        "UAoHcmVnaW9ucxgBIAMoCzI2LmluZmVyZW5jZS5DdWRhU2hhcmVkTWVtb3J5U3RhdHVzUmVzcG9uc2UuUmVnaW9uc0VudHJ5Ugdy"
        "ZWdpb25zGlwKDFJlZ2lvblN0YXR1cxISCgRuYW1lGAEgASgJUgRuYW1lEhsKCWRldmljZV9pZBgCIAEoBFIIZGV2aWNlSWQSGwoJ"
        "Ynl0ZV9zaXplGAMgASgEUghieXRlU2l6ZRpyCgxSZWdpb25zRW50cnkSEAoDa2V5GAEgASgJUgNrZXkSTAoFdmFsdWUYAiABKAsy"
        "Ni5pbmZlcmVuY2UuQ3VkYVNoYXJlZE1lbW9yeVN0YXR1c1Jlc3BvbnNlLlJlZ2lvblN0YXR1c1IFdmFsdWU6AjgBIo4BCh9DdWRh"
        "U2hhcmVkTWVtb3J5UmVnaXN0ZXJSZXF1ZXN0EhIKBG5hbWUYASABKAlSBG5hbWUSHQoKcmF3X2hhbmRsZRgCIAEoDFIJcmF3SGFu"
        "ZGxlEhsKCWRldmljZV9pZBgDIAEoA1IIZGV2aWNlSWQSGwoJYnl0ZV9zaXplGAQgASgEUghieXRlU2l6ZSIiCiBDdWRhU2hhcmVk"
        "TWVtb3J5UmVnaXN0ZXJSZXNwb25zZSI3CiFDdWRhU2hhcmVkTWVtb3J5VW5yZWdpc3RlclJlcXVlc3QSEgoEbmFtZRgBIAEoCVIE"
        "bmFtZSIkCiJDdWRhU2hhcmVkTWVtb3J5VW5yZWdpc3RlclJlc3BvbnNlIo4CChNUcmFjZVNldHRpbmdSZXF1ZXN0EkgKCHNldHRp"
        "bmdzGAEgAygLMiwuaW5mZXJlbmNlLlRyYWNlU2V0dGluZ1JlcXVlc3QuU2V0dGluZ3NFbnRyeVIIc2V0dGluZ3MSHQoKbW9kZWxf"
        "bmFtZRgCIAEoCVIJbW9kZWxOYW1lGiQKDFNldHRpbmdWYWx1ZRIUCgV2YWx1ZRgBIAMoCVIFdmFsdWUaaAoNU2V0dGluZ3NFbnRy"
        "eRIQCgNrZXkYASABKAlSA2tleRJBCgV2YWx1ZRgCIAEoCzIrLmluZmVyZW5jZS5UcmFjZVNldHRpbmdSZXF1ZXN0LlNldHRpbmdW"
        "YWx1ZVIFdmFsdWU6AjgBIvIBChRUcmFjZVNldHRpbmdSZXNwb25zZRJJCghzZXR0aW5ncxgBIAMoCzItLmluZmVyZW5jZS5UcmFj"
        "ZVNldHRpbmdSZXNwb25zZS5TZXR0aW5nc0VudHJ5UghzZXR0aW5ncxokCgxTZXR0aW5nVmFsdWUSFAoFdmFsdWUYASADKAlSBXZh"
        "bHVlGmkKDVNldHRpbmdzRW50cnkSEAoDa2V5GAEgASgJUgNrZXkSQgoFdmFsdWUYAiABKAsyLC5pbmZlcmVuY2UuVHJhY2VTZXR0"
        "aW5nUmVzcG9uc2UuU2V0dGluZ1ZhbHVlUgV2YWx1ZToCOAEi1gIKEkxvZ1NldHRpbmdzUmVxdWVzdBJHCghzZXR0aW5ncxgBIAMo"
        "CzIrLmluZmVyZW5jZS5Mb2dTZXR0aW5nc1JlcXVlc3QuU2V0dGluZ3NFbnRyeVIIc2V0dGluZ3MajQEKDFNldHRpbmdWYWx1ZRIf"
        "Cgpib29sX3BhcmFtGAEgASgISABSCWJvb2xQYXJhbRIjCgx1aW50MzJfcGFyYW0YAiABKA1IAFILdWludDMyUGFyYW0SIwoMc3Ry"
        "aW5nX3BhcmFtGAMgASgJSABSC3N0cmluZ1BhcmFtQhIKEHBhcmFtZXRlcl9jaG9pY2UaZwoNU2V0dGluZ3NFbnRyeRIQCgNrZXkY"
        "ASABKAlSA2tleRJACgV2YWx1ZRgCIAEoCzIqLmluZmVyZW5jZS5Mb2dTZXR0aW5nc1JlcXVlc3QuU2V0dGluZ1ZhbHVlUgV2YWx1"
        "ZToCOAEi2QIKE0xvZ1NldHRpbmdzUmVzcG9uc2USSAoIc2V0dGluZ3MYASADKAsyLC5pbmZlcmVuY2UuTG9nU2V0dGluZ3NSZXNw"
        "b25zZS5TZXR0aW5nc0VudHJ5UghzZXR0aW5ncxqNAQoMU2V0dGluZ1ZhbHVlEh8KCmJvb2xfcGFyYW0YASABKAhIAFIJYm9vbFBh"
        "cmFtEiMKDHVpbnQzMl9wYXJhbRgCIAEoDUgAUgt1aW50MzJQYXJhbRIjCgxzdHJpbmdfcGFyYW0YAyABKAlIAFILc3RyaW5nUGFy"
        "YW1CEgoQcGFyYW1ldGVyX2Nob2ljZRpoCg1TZXR0aW5nc0VudHJ5EhAKA2tleRgBIAEoCVIDa2V5EkEKBXZhbHVlGAIgASgLMisu"
        "aW5mZXJlbmNlLkxvZ1NldHRpbmdzUmVzcG9uc2UuU2V0dGluZ1ZhbHVlUgV2YWx1ZToCOAEq+gEKCERhdGFUeXBlEhAKDFRZUEVf"
        "SU5WQUxJRBAAEg0KCVRZUEVfQk9PTBABEg4KClRZUEVfVUlOVDgQAhIPCgtUWVBFX1VJTlQxNhADEg8KC1RZUEVfVUlOVDMyEAQS"
        "DwoLVFlQRV9VSU5UNjQQBRINCglUWVBFX0lOVDgQBhIOCgpUWVBFX0lOVDE2EAcSDgoKVFlQRV9JTlQzMhAIEg4KClRZUEVfSU5U"
        "NjQQCRINCglUWVBFX0ZQMTYQChINCglUWVBFX0ZQMzIQCxINCglUWVBFX0ZQNjQQDBIPCgtUWVBFX1NUUklORxANEg0KCVRZUEVf"
        "QkYxNhAOMrcPChRHUlBDSW5mZXJlbmNlU2VydmljZRJLCgpTZXJ2ZXJMaXZlEhwuaW5mZXJlbmNlLlNlcnZlckxpdmVSZXF1ZXN0"
        "Gh0uaW5mZXJlbmNlLlNlcnZlckxpdmVSZXNwb25zZSIAEk4KC1NlcnZlclJlYWR5Eh0uaW5mZXJlbmNlLlNlcnZlclJlYWR5UmVx"
        "dWVzdBoeLmluZmVyZW5jZS5TZXJ2ZXJSZWFkeVJlc3BvbnNlIgASSwoKTW9kZWxSZWFkeRIcLmluZmVyZW5jZS5Nb2RlbFJlYWR5"
        "UmVxdWVzdBodLmluZmVyZW5jZS5Nb2RlbFJlYWR5UmVzcG9uc2UiABJXCg5TZXJ2ZXJNZXRhZGF0YRIgLmluZmVyZW5jZS5TZXJ2"
        "ZXJNZXRhZGF0YVJlcXVlc3QaIS5pbmZlcmVuY2UuU2VydmVyTWV0YWRhdGFSZXNwb25zZSIAElQKDU1vZGVsTWV0YWRhdGESHy5p"
        "bmZlcmVuY2UuTW9kZWxNZXRhZGF0YVJlcXVlc3QaIC5pbmZlcmVuY2UuTW9kZWxNZXRhZGF0YVJlc3BvbnNlIgASSwoKTW9kZWxJ"
        "bmZlchIcLmluZmVyZW5jZS5Nb2RlbEluZmVyUmVxdWVzdBodLmluZmVyZW5jZS5Nb2RlbEluZmVyUmVzcG9uc2UiABJbChBNb2Rl"
        "bFN0cmVhbUluZmVyEhwuaW5mZXJlbmNlLk1vZGVsSW5mZXJSZXF1ZXN0GiMuaW5mZXJlbmNlLk1vZGVsU3RyZWFtSW5mZXJSZXNw"
        "b25zZSIAKAEwARJOCgtNb2RlbENvbmZpZxIdLmluZmVyZW5jZS5Nb2RlbENvbmZpZ1JlcXVlc3QaHi5pbmZlcmVuY2UuTW9kZWxD"
        "b25maWdSZXNwb25zZSIAEloKD01vZGVsU3RhdGlzdGljcxIhLmluZmVyZW5jZS5Nb2RlbFN0YXRpc3RpY3NSZXF1ZXN0GiIuaW5m"
        "ZXJlbmNlLk1vZGVsU3RhdGlzdGljc1Jlc3BvbnNlIgASWgoPUmVwb3NpdG9yeUluZGV4EiEuaW5mZXJlbmNlLlJlcG9zaXRvcnlJ"
        "bmRleFJlcXVlc3QaIi5pbmZlcmVuY2UuUmVwb3NpdG9yeUluZGV4UmVzcG9uc2UiABJmChNSZXBvc2l0b3J5TW9kZWxMb2FkEiUu"
        "aW5mZXJlbmNlLlJlcG9zaXRvcnlNb2RlbExvYWRSZXF1ZXN0GiYuaW5mZXJlbmNlLlJlcG9zaXRvcnlNb2RlbExvYWRSZXNwb25z"
        "ZSIAEmwKFVJlcG9zaXRvcnlNb2RlbFVubG9hZBInLmluZmVyZW5jZS5SZXBvc2l0b3J5TW9kZWxVbmxvYWRSZXF1ZXN0GiguaW5m"
        "ZXJlbmNlLlJlcG9zaXRvcnlNb2RlbFVubG9hZFJlc3BvbnNlIgASdQoYU3lzdGVtU2hhcmVkTWVtb3J5U3RhdHVzEiouaW5mZXJl"
        "bmNlLlN5c3RlbVNoYXJlZE1lbW9yeVN0YXR1c1JlcXVlc3QaKy5pbmZlcmVuY2UuU3lzdGVtU2hhcmVkTWVtb3J5U3RhdHVzUmVz"
        "cG9uc2UiABJ7ChpTeXN0ZW1TaGFyZWRNZW1vcnlSZWdpc3RlchIsLmluZmVyZW5jZS5TeXN0ZW1TaGFyZWRNZW1vcnlSZWdpc3Rl"
        "clJlcXVlc3QaLS5pbmZlcmVuY2UuU3lzdGVtU2hhcmVkTWVtb3J5UmVnaXN0ZXJSZXNwb25zZSIAEoEBChxTeXN0ZW1TaGFyZWRN"
        "ZW1vcnlVbnJlZ2lzdGVyEi4uaW5mZXJlbmNlLlN5c3RlbVNoYXJlZE1lbW9yeVVucmVnaXN0ZXJSZXF1ZXN0Gi8uaW5mZXJlbmNl"
        "LlN5c3RlbVNoYXJlZE1lbW9yeVVucmVnaXN0ZXJSZXNwb25zZSIAEm8KFkN1ZGFTaGFyZWRNZW1vcnlTdGF0dXMSKC5pbmZlcmVu"
        "Y2UuQ3VkYVNoYXJlZE1lbW9yeVN0YXR1c1JlcXVlc3QaKS5pbmZlcmVuY2UuQ3VkYVNoYXJlZE1lbW9yeVN0YXR1c1Jlc3BvbnNl"
        "IgASdQoYQ3VkYVNoYXJlZE1lbW9yeVJlZ2lzdGVyEiouaW5mZXJlbmNlLkN1ZGFTaGFyZWRNZW1vcnlSZWdpc3RlclJlcXVlc3Qa"
        "Ky5pbmZlcmVuY2UuQ3VkYVNoYXJlZE1lbW9yeVJlZ2lzdGVyUmVzcG9uc2UiABJ7ChpDdWRhU2hhcmVkTWVtb3J5VW5yZWdpc3Rl"
        "chIsLmluZmVyZW5jZS5DdWRhU2hhcmVkTWVtb3J5VW5yZWdpc3RlclJlcXVlc3QaLS5pbmZlcmVuY2UuQ3VkYVNoYXJlZE1lbW9y"
        "eVVucmVnaXN0ZXJSZXNwb25zZSIAElEKDFRyYWNlU2V0dGluZxIeLmluZmVyZW5jZS5UcmFjZVNldHRpbmdSZXF1ZXN0Gh8uaW5m"
        "ZXJlbmNlLlRyYWNlU2V0dGluZ1Jlc3BvbnNlIgASTgoLTG9nU2V0dGluZ3MSHS5pbmZlcmVuY2UuTG9nU2V0dGluZ3NSZXF1ZXN0"
        "Gh4uaW5mZXJlbmNlLkxvZ1NldHRpbmdzUmVzcG9uc2UiAGIGcHJvdG8z"
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
