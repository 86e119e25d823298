"""The networks of BASELINES.md in our notation, with the params that are published or counted by hand."""

from __future__ import annotations

# Ladder A: 3x3 convolutions without bias, conv -> ReLU -> BatchNorm; AvgPool(4), then the 1x1 classifier without bias.
#   A1: 9·(1·32 + 32·64 + 64·128 + 128·256 + 256·128 + 128·64 + 64·32) = 774,432; + 32·10 = 320;
#       BatchNorm 2·(32 + 64 + 128 + 256 + 128 + 64 + 32) = 1,408; together 776,160
#   A2: 9·(1·10 + 10·10 + 10·12 + 12·14 + 14·12 + 12·10 + 10·10) = 7,074; + 100; BatchNorm 2·78 = 156: 7,330
A1 = "[relu-bn] 32 64 128 256 M 128 64 32 | avg4 1x1:10 nobias"
A2 = "[relu-bn] 10 10 12 14 M 12 10 10 | avg4 1x1:10 nobias"
A3 = "[relu-bn @0.05] 10 10 12 14 M 12 10 10 | avg4 1x1:10 nobias"

# Ladder B: biased, conv -> ReLU -> BatchNorm; * is bare.
#   B1: 320 + 18,496 + 73,856 + 295,168 + 8,224 + 18,496 + 73,856 + 295,168 + 1,180,160 + 5,130 = 1,968,874
#   B2: + 2·(32 + 64 + 128 + 256 + 64 + 128 + 256) = 1,856: 1,970,730
#   B3: 80 + 876 + 1,526 + 120 + 876 + 1,744 + 2,320 + 170 = 7,712; BatchNorm 2·(8 + 12 + 14 + 12 + 16) = 124: 7,836
#   B7: 80 + 876 + 1,526 + 120 + 1,168 + 2,320 + 170 = 6,260; BatchNorm 2·(8 + 12 + 14 + 16) = 100: 6,360
#   B9: B3 with 9 for 8 channels in the squeeze: + 14 + 1 there and 9·12 = 108 in the next: 7,959
B1 = "[relu bias] 32 64 128 256 M 1x1:32* 64 128 256 512* M | 1x1:10"
B2 = "[relu-bn bias] 32 64 128 256 M 1x1:32* 64 128 256 512* M | 1x1:10"
B3 = "[relu-bn bias] 8 12 M 14 1x1:8* 12 16 M 16* | 1x1:10"
B4 = "[relu-bn bias] 8@0.1 12@0.1 M 14@0.1 1x1:8* 12@0.1 16 M 16* | 1x1:10"
B5 = "[relu-bn bias] 8@0.5 12@0.5 M 14@0.5 1x1:8* 12@0.1 16 M 16* | 1x1:10"
B6 = "[relu-bn bias] 8@0.1 12 M 14 1x1:8* 12@0.1 16 M 16* | 1x1:10"
B7 = "[relu-bn bias] 8@0.1 12 M 14 1x1:8* 16@0.1 16* M | 1x1:10 avg3"
B8 = "[relu-bn bias] 8@0.1 12 M 14 1x1:8* c12@0.1 c16 M 16* | 1x1:10 avg2"
B9 = "[relu-bn bias] 8@0.05 12 M 14 1x1:9* c12@0.1 c16 M 16* | 1x1:10 avg2"
B10 = "[relu-bn bias] 8@0.05 12 M 14 1x1:9* 12@0.05 16 16* | 1x1:10 avg4"

# The probe: conv -> BatchNorm -> ReLU without bias; global pooling, then the 1x1 classifier with bias.
PROBE = {
    "8 14 M 1x1:10 12 14 14": 5_870,
    "8 12 M c12 c12 14 16": 7_374,
    "c8 c12 M c12 c12 M c16 c16": 7_882,
    "6 8 M c8 c10 10 12": 4_000,
    "6 8 M c8 c8 8 10": 3_140,
    "c8 c10 M c12 c12 c12 M c14 c14": 8_054,
    "c8 c10 M c12 c12 c12 M c14 c13": 7_916,
    "c6 c8 M c8 c8 c8 M c10 c9": 3_958,
    "c4 c6 M c8 c8 c8 M c8 c8": 3_178,
    "c4 c4 M c4 c5 M c6 c6": 1_226,
    "8 s12 s12 M s16 s16 s20 M s24 s24": 3_838,
}

PARAMS = {
    A1: 776_160,
    A2: 7_330,
    A3: 7_330,
    B1: 1_968_874,
    B2: 1_970_730,
    B3: 7_836,
    B4: 7_836,
    B5: 7_836,
    B6: 7_836,
    B7: 6_360,
    B8: 7_836,
    B9: 7_959,
    B10: 7_959,
    **PROBE,
}
