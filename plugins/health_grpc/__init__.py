# SPDX-License-Identifier: Apache-2.0
"""health_grpc: nodes report their health over gRPC."""
