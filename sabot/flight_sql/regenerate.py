"""Write flight_sql_pb2.py and its stub from flight_sql.proto: ``python -m sabot.flight_sql.regenerate``.

For development only: needs ``grpcio-tools`` (1.76, whose output runs on protobuf 6.33 and 7).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_SHARED_POOL = "DESCRIPTOR = _descriptor_pool.Default()"
_BARE = ", _Mapping]"
_TYPED = ", _Mapping[str, object]]"
_OWN_POOL = "DESCRIPTOR = _descriptor_pool.DescriptorPool()"


def main() -> None:
    """Run protoc and give the module a descriptor pool of its own.

    In the process-wide pool the messages would clash with another package's copy of the same protocol.
    """
    options = [f"--proto_path={_HERE}", f"--python_out={_HERE}", f"--pyi_out={_HERE}", "flight_sql.proto"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options], check=True)
    module = _HERE / "flight_sql_pb2.py"
    text = module.read_text()
    if text.count(_SHARED_POOL) != 1:
        sys.exit(f"{module} does not hold {_SHARED_POOL!r} once: read the new output of protoc")
    module.write_text(text.replace(_SHARED_POOL, _OWN_POOL))
    # protoc leaves the type arguments out, which mypy's strict mode refuses
    stub = _HERE / "flight_sql_pb2.pyi"
    stub.write_text(stub.read_text().replace(_BARE, _TYPED))


if __name__ == "__main__":
    main()
