# SPDX-License-Identifier: Apache-2.0
"""Capture files: reads pcap and pcapng as others write them, writes pcap."""

from galelb.pcap.reader import read_pcap
from galelb.pcap.values import LinkType, Record
from galelb.pcap.writer import PcapWriter

__all__ = ["LinkType", "PcapWriter", "Record", "read_pcap"]
