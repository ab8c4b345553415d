#pragma once
#include "cpu/library.h"

kl_status moe(const kl::Instance& instance, const kl_moe_args& a);
kl_status moe_residual(const kl::Instance& instance, const kl_moe_residual_args& a);
kl_status transpose_experts(const kl::Instance& instance, const kl_transpose_experts_args& a);
