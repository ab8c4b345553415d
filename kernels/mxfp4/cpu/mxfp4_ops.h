#pragma once
#include "cpu/library.h"

kl_status moe(const kl::Instance& instance, const kl_moe_args& a);
kl_status moe_residual(const kl::Instance& instance, const kl_moe_residual_args& a);
kl_status mxfp4_dequantize(const kl::Instance& instance, const kl_mxfp4_dequantize_args& a);
