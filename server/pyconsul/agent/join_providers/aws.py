"""``provider=aws tag_key=K tag_value=V``: running EC2 instances with a tag.

Further settings: ``region``, ``addr_type`` (``private_v4``, ``public_v4``,
``public_v6``), ``access_key_id``, ``secret_access_key``, ``endpoint``. What is
left out is found as AWS tools find it (environment, profile, instance role).
Needs boto3: the extra ``pyconsul-suite[aws]``.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import urllib.request
from typing import Any

from pyconsul.agent.join_providers import DiscoverError, Settings, only

CALL_S = 15.0
"""Seconds one discovery may take."""
METADATA_S = 2.0
METADATA = "http://169.254.169.254/latest"
ADDRESS_TYPES = ("private_v4", "public_v4", "public_v6")


async def find(settings: Settings) -> list[str]:
    """Return the addresses of the instances; raises ``DiscoverError``."""
    only(
        "aws",
        settings,
        "region",
        "tag_key",
        "tag_value",
        "addr_type",
        "access_key_id",
        "secret_access_key",
        "session_token",
        "endpoint",
        "service",
    )
    if settings.get("service", "ec2") != "ec2":
        raise DiscoverError("discover-aws: only service=ec2 is supported")
    for name in ("tag_key", "tag_value"):
        if not settings.get(name):
            raise DiscoverError(f"discover-aws: {name} is missing")
    kind = settings.get("addr_type", "private_v4")
    if kind not in ADDRESS_TYPES:
        raise DiscoverError(f"discover-aws: invalid addr_type: {kind}")
    try:
        boto3: Any = importlib.import_module("boto3")
        config: Any = importlib.import_module("botocore.config")
        errors: Any = importlib.import_module("botocore.exceptions")
    except ImportError:
        raise DiscoverError(
            "discover-aws: boto3 is not installed (install pyconsul-suite[aws])"
        ) from None
    region = (
        settings.get("region")
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or await asyncio.to_thread(_own_region)
    )
    if not region:
        raise DiscoverError("discover-aws: region is missing and could not be found")

    def ask() -> list[str]:
        session = boto3.session.Session(
            aws_access_key_id=settings.get("access_key_id") or None,
            aws_secret_access_key=settings.get("secret_access_key") or None,
            aws_session_token=settings.get("session_token") or None,
            region_name=region,
        )
        client = session.client(
            "ec2",
            endpoint_url=settings.get("endpoint") or None,
            config=config.Config(
                connect_timeout=5, read_timeout=10, retries={"max_attempts": 1}
            ),
        )
        try:
            return _addresses(client, settings, kind)
        finally:
            client.close()

    try:
        async with asyncio.timeout(CALL_S):
            return await asyncio.to_thread(ask)
    except TimeoutError:
        raise DiscoverError("discover-aws: DescribeInstances timed out") from None
    except (errors.BotoCoreError, errors.ClientError, ValueError) as error:
        raise DiscoverError(
            f"discover-aws: DescribeInstances failed: {error}"
        ) from None


def _addresses(client: Any, settings: Settings, kind: str) -> list[str]:
    filters = [
        {
            "Name": f"tag:{settings['tag_key']}",
            "Values": settings["tag_value"].split(","),
        },
        {"Name": "instance-state-name", "Values": ["running"]},
    ]
    found: list[str] = []
    pages = client.get_paginator("describe_instances").paginate(Filters=filters)
    for page in pages:
        for reservation in page.get("Reservations", ()):
            for instance in reservation.get("Instances", ()):
                found += _of_instance(instance, kind)
    return found


def _of_instance(instance: dict[str, Any], kind: str) -> list[str]:
    if kind == "private_v4":
        address = instance.get("PrivateIpAddress")
    elif kind == "public_v4":
        address = instance.get("PublicIpAddress")
    else:
        return [
            str(one["Ipv6Address"])
            for card in instance.get("NetworkInterfaces", ())
            for one in card.get("Ipv6Addresses", ())
            if one.get("Ipv6Address")
        ]
    return [str(address)] if address else []


def _own_region() -> str:
    """Return the region of the instance this runs on, empty elsewhere."""
    try:
        ask = urllib.request.Request(
            f"{METADATA}/api/token",
            method="PUT",
            headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"},
        )
        with urllib.request.urlopen(ask, timeout=METADATA_S) as answer:
            token = answer.read(1024).decode("ascii")
        ask = urllib.request.Request(
            f"{METADATA}/meta-data/placement/region",
            headers={"X-aws-ec2-metadata-token": token},
        )
        with urllib.request.urlopen(ask, timeout=METADATA_S) as answer:
            return answer.read(64).decode("ascii").strip()
    except (OSError, ValueError):
        return ""
