"""Converts published test vectors to the line format of this directory (see README.md).

    convert.py wycheproof FILE.json   > wycheproof_NAME.txt
    convert.py cacophony FILE NAME    > noise_NAME.txt
    convert.py blake2s                > blake2s_mac.txt
    convert.py transport              > transport.txt
"""
import hashlib
import json
import sys


def show(fields):
    print("".join(f"\n{key}={value}" for key, value in fields))


def wycheproof(path):
    for group in json.load(open(path))["testGroups"]:
        for test in group["tests"]:
            fields = [("id", test["tcId"]), ("flags", ",".join(test["flags"]))]
            if "iv" in test:
                fields += [("key", test["key"]), ("nonce", test["iv"]), ("aad", test["aad"])]
                fields += [("text", test["msg"]), ("sealed", test["ct"] + test["tag"])]
            else:
                fields += [(key, test[key]) for key in ("private", "public", "shared")]
            show(fields + [("result", test["result"])])


def cacophony(path, name):
    for test in json.load(open(path))["vectors"]:
        if test["protocol_name"] != name:
            continue
        messages = test.pop("messages")
        fields = [(key.replace("psks", "psk"), value) for key, value in test.items()]
        fields = [(key, value[0] if isinstance(value, list) else value) for key, value in fields]
        for number, message in enumerate(messages):
            fields += [(f"msg_{number}_{key}", value) for key, value in message.items()]
        show(fields)


def blake2s():
    for key_len in (1, 15, 16, 31, 32):
        for text_len in (0, 1, 63, 64, 65, 100, 116, 132, 200):
            key = hashlib.shake_128(b"key %d" % text_len).digest(key_len)
            text = hashlib.shake_128(b"text %d" % key_len).digest(text_len)
            mac = hashlib.blake2s(text, key=key, digest_size=16)
            show([("key", key.hex()), ("text", text.hex()), ("mac", mac.hexdigest())])


def transport():
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    lengths = [*range(0, 19), 31, 32, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129, 191, 192, 193]
    lengths += [255, 256, 257, 319, 320, 511, 512, 513, 576, 1023, 1024, 1025, 1280, 1408, 1420]
    lengths += [1424, 1440, 1500, 2048, 4096, 9000, 65488]
    counters = [0, 1, 2**32 - 1, 2**32, 2**60, 2**64 - 2**13 - 2, 0x0102030405060708]
    for number, length in enumerate(lengths):
        counter = counters[number % len(counters)]
        key = hashlib.shake_128(b"transport %d" % length).digest(32)
        text = bytes((7 * i + length) % 251 for i in range(length))
        nonce = bytes(4) + counter.to_bytes(8, "little")
        sealed = ChaCha20Poly1305(key).encrypt(nonce, text, b"")
        digest = hashlib.blake2s(sealed).hexdigest()
        fields = [("key", key.hex()), ("counter", counter), ("length", length)]
        show(fields + [("tag", sealed[-16:].hex()), ("blake2s", digest)])


converters = {f.__name__: f for f in (wycheproof, cacophony, blake2s, transport)}
converters[sys.argv[1]](*sys.argv[2:])
