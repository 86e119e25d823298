"""Networks found by budgetnet; the weights and the evidence of each lie beside this file under its name."""

from torch import Tensor, nn


class Frontier_1000(nn.Module):
    """(N, 1, 28, 28) images → (N, 10) logits, 966 params.

    Target: at least 99 % of the test images in the last of 15 epochs, with fewer than 1,000 params. How close the last
    epoch comes to the target with a budget of 1,000 is the question of this study.

    Result: 98.67 ± 0.09 % (mean ± standard deviation of the last epoch over 10 seeds, 10,000 test images).
        params       966 / 1,000
        MACs         143,286
        activations  7,840 at the peak
        best train   98.76 % (running figure of an epoch: changing weights, images as augmented)
        clean train  98.80 % (mean of the last weights, images as they are)
        best test    98.82 % (chosen on test, so it flatters)
        lowest       98.55 % in the last epoch of any seed
        held         0 of 10 seeds
        seed 0       98.82 % (last epoch)
        seed 1       98.55 % (last epoch)
        seed 2       98.61 % (last epoch)
        seed 3       98.68 % (last epoch)
        seed 4       98.58 % (last epoch)
        seed 5       98.78 % (last epoch)
        seed 6       98.65 % (last epoch)
        seed 7       98.61 % (last epoch)
        seed 8       98.70 % (last epoch)
        seed 9       98.77 % (last epoch)

    Analysis:
    - The target held in 0 of 10 seeds (95 % Wilson interval of the share of seeds: 0.0 % to 27.8 %): it is missed, and
      this network is no proof that the target can be held.
    - Between seeds the last epoch varies by 0.09 points (standard deviation); the 95 % interval of its mean, by
      Student's t, is 98.61 to 98.74 %.
    - No overfitting beyond noise: on images as they are, the last weights classify 98.80 % of the training and 98.67 %
      of the test images, 0.12 points apart, within two standard errors of 10,000 images (0.11 points each). It
      underfits: even the training images stay below the target of 99 %, so capacity, epochs or recipe limit it, not
      memorising.
    - It uses 966 / 1,000 params, 96.6 % of the budget, nearly all of it; 34 are left.
    - The receptive field of a cell of the last map (8 × 8) is 16 × 16 pixels, the image 28 × 28: no cell sees all of
      it, and only the head joins the parts.

    Receptive field:
        layer        kind                output  jump  sees
        stem.0       Conv2d 3 × 3       28 × 28     1     3
        stage1.0     MaxPool2d 2 × 2    14 × 14     2     4
        stage1.1     Conv2d 3 × 3       12 × 12     2     8
        stage1.4     Conv2d 1 × 1       12 × 12     2     8
        stage1.7     Conv2d 3 × 3       10 × 10     2    12
        stage1.10    Conv2d 1 × 1       10 × 10     2    12
        stage1.7@2   Conv2d 3 × 3         8 × 8     2    16
        stage1.10@2  Conv2d 1 × 1         8 × 8     2    16
        head.0       AdaptiveAvgPool2d    1 × 1    16    30
        head.2       Linear                  10    16    30

    Origin:
        study       frontier/params_1000, trial 27, search seed 4, validation accuracy 98.51 %
        data        mnist; retrained on all training images, seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; test read once an
                    epoch, to report
        network     [bn-silu] c8 M vs15^2 | gap fc:10
        input       pixels from 0 to 1, less 0.1307, over 0.3081
        recipe      learning_rate=0.40911466731517204, batch_size=64, epochs=15, optimizer=sgd, momentum=0.9,
                    nesterov=True, weight_decay=3.7679244303313435e-06, schedule=onecycle, warmup=0.2, step_size=6,
                    gamma=0.1, rotation=2.9257176613963534, scale=0.002180964780363426, shift=0.0013622057158671997,
                    shear=0.009401708760610639, fill=0.0, flip=False, label_smoothing=0.0, ema=0.995,
                    teacher=studies/frontier/teacher.safetensors#fdc6eca26fbb, distill=1.0, temperature=2.0
        trained by  budgetnet 0.1.0, torch 2.15.0, numba 0.68.1, python 3.11.7, 1 thread of AMD EPYC (seeds 0, 1, 2, 3,
                    4); budgetnet 0.1.1, torch 2.15.0, numba 0.68.1, python 3.11.7, 1 thread of AMD EPYC (seeds 5, 6, 7,
                    8, 9)
        weights     Frontier_1000.safetensors, of seed 0, the first, after its last epoch
                    sha256 ea6a3ebe9a87a21051034ce605edb1509c43cfe9447527ec570718e0ee856104
        evidence    Frontier_1000.json, all that was recorded
                    sha256 8f9ec59e5dd04698fd63e1c907fde3e7366d6a9b7e6752d20e5ad2c582b0dcc3
    """

    input_shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),  # 28 × 28, jump  1, receptive field  3
            nn.BatchNorm2d(8),
            nn.SiLU(),
        )
        shared1 = nn.Conv2d(15, 15, 3, groups=15, bias=False)
        shared2 = nn.Conv2d(15, 15, 1, bias=False)
        self.stage1 = nn.Sequential(
            nn.MaxPool2d(2),  #                           14 × 14, jump  2, receptive field  4
            nn.Conv2d(8, 8, 3, groups=8, bias=False),  #  12 × 12, jump  2, receptive field  8
            nn.BatchNorm2d(8),
            nn.SiLU(),
            nn.Conv2d(8, 15, 1, bias=False),  #           12 × 12, jump  2, receptive field  8
            nn.BatchNorm2d(15),
            nn.SiLU(),
            shared1,  #                                   10 × 10, jump  2, receptive field 12
            nn.BatchNorm2d(15),
            nn.SiLU(),
            shared2,  #                                   10 × 10, jump  2, receptive field 12
            nn.BatchNorm2d(15),
            nn.SiLU(),
            shared1,  #                                     8 × 8, jump  2, receptive field 16
            nn.BatchNorm2d(15),
            nn.SiLU(),
            shared2,  #                                     8 × 8, jump  2, receptive field 16
            nn.BatchNorm2d(15),
            nn.SiLU(),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  #                     1 × 1, jump 16, receptive field 30
            nn.Flatten(),
            nn.Linear(15, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) images → (N, 10) logits."""
        x = self.stem(x)  #              (N, 8, 28, 28)
        x = self.stage1(x)  #            (N, 15, 8, 8)
        logits: Tensor = self.head(x)  # (N, 10)
        return logits


class Frontier_4000(nn.Module):
    """(N, 1, 28, 28) images → (N, 10) logits, 3,987 params.

    Target: at least 99.4 % of the test images in every one of the last 5 of 15 epochs, with fewer than 4,000 params.
    Whether every one of the last epochs can hold the target with a budget of 4,000, and in nearly every seed, is the
    question of this study.

    Result: 99.49 ± 0.04 % (mean ± standard deviation of the last epoch over 10 seeds, 10,000 test images).
        params       3,987 / 4,000
        MACs         872,870
        activations  14,896 at the peak
        best train   99.41 % (running figure of an epoch: changing weights, images as augmented)
        clean train  99.57 % (mean of the last weights, images as they are)
        best test    99.58 % (chosen on test, so it flatters)
        lowest       99.39 % in the last 5 epochs of any seed
        held         8 of 10 seeds
        seed 0       99.51 99.49 99.51 99.50 99.50 % (last 5 epochs)
        seed 1       99.52 99.52 99.52 99.50 99.48 % (last 5 epochs)
        seed 2       99.39 99.40 99.39 99.42 99.41 % (last 5 epochs)
        seed 3       99.54 99.52 99.53 99.53 99.53 % (last 5 epochs)
        seed 4       99.51 99.49 99.50 99.52 99.52 % (last 5 epochs)
        seed 5       99.54 99.53 99.55 99.53 99.55 % (last 5 epochs)
        seed 6       99.41 99.39 99.40 99.41 99.43 % (last 5 epochs)
        seed 7       99.52 99.52 99.56 99.52 99.51 % (last 5 epochs)
        seed 8       99.46 99.50 99.46 99.47 99.50 % (last 5 epochs)
        seed 9       99.46 99.48 99.47 99.48 99.50 % (last 5 epochs)

    Analysis:
    - The target held in 8 of 10 seeds (95 % Wilson interval of the share of seeds: 49.0 % to 94.3 %): whether it holds
      depends on the seed; the lowest of the last 5 epochs is 99.39 %.
    - Between seeds the last epoch varies by 0.04 points (standard deviation); the 95 % interval of its mean, by
      Student's t, is 99.46 to 99.52 %.
    - No overfitting beyond noise: on images as they are, the last weights classify 99.57 % of the training and 99.49 %
      of the test images, 0.08 points apart, within two standard errors of 10,000 images (0.07 points each).
    - No trend beyond the noise between seeds: mean test accuracy is 99.49 % at the first and 99.49 % at the last of the
      5 epochs (95 % interval of the rise -0.01 to +0.02 points, paired by seed, p 0.398).
    - Steady: no seed moved by more than 0.05 points within the last 5 epochs. Naming each seed's best epoch instead of
      its last would flatter it by 0.03 points on average.
    - It uses 3,987 / 4,000 params, 99.7 % of the budget, nearly all of it; 13 are left.
    - The receptive field of a cell of the last map (6 × 6) is 22 × 22 pixels, the image 28 × 28: no cell sees all of
      it, and only the head joins the parts.
    - Changed against Frontier_1000: [bn-silu] c8 c11 M vs23 vs23 vs22 vs23 | gap fc:10 (3,987 params) for [bn-silu] c8
      M vs15^2 | gap fc:10 (966); in the recipe learning_rate 0.4091 → 0.18, weight_decay 3.768e-06 → 6.6e-05, rotation
      2.926 → 9.7, scale 0.002181 → 0.12, shift 0.001362 → 0.056, shear 0.009402 → 0.078, ema 0.995 → 0.998, teacher
      studies/frontier/teacher.safetensors#fdc6eca26fbb → studies/step_3_generalise/teacher.safetensors#54547b938dd5,
      distill 1 → 0.6, temperature 2 → 4.
    - Over 10 shared seeds it ends 0.82 points above Frontier_1000: larger than the noise between seeds (95 % interval
      +0.76 to +0.88 points, paired by seed, p < 0.001) and between images: 400 test images are classified correctly by
      more of its seeds, 33 by more of Frontier_1000's (exact paired test over images, p < 0.001).

    Receptive field:
        layer      kind                output  jump  sees
        stem.0     Conv2d 3 × 3       28 × 28     1     3
        stage1.0   Conv2d 3 × 3       28 × 28     1     5
        stage2.0   MaxPool2d 2 × 2    14 × 14     2     6
        stage2.1   Conv2d 3 × 3       12 × 12     2    10
        stage2.4   Conv2d 1 × 1       12 × 12     2    10
        stage2.7   Conv2d 3 × 3       10 × 10     2    14
        stage2.10  Conv2d 1 × 1       10 × 10     2    14
        stage2.13  Conv2d 3 × 3         8 × 8     2    18
        stage2.16  Conv2d 1 × 1         8 × 8     2    18
        stage2.19  Conv2d 3 × 3         6 × 6     2    22
        stage2.22  Conv2d 1 × 1         6 × 6     2    22
        head.0     AdaptiveAvgPool2d    1 × 1    12    32
        head.2     Linear                  10    12    32

    Origin:
        study       frontier/params_4000_large, trial 3, search seed 4, validation accuracy 99.40 %
        data        mnist; retrained on all training images, seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; test read once an
                    epoch, to report
        network     [bn-silu] c8 c11 M vs23 vs23 vs22 vs23 | gap fc:10
        input       pixels from 0 to 1, less 0.1307, over 0.3081
        recipe      learning_rate=0.18, batch_size=64, epochs=15, optimizer=sgd, momentum=0.9, nesterov=True,
                    weight_decay=6.6e-05, schedule=onecycle, warmup=0.2, step_size=6, gamma=0.1, rotation=9.7,
                    scale=0.12, shift=0.056, shear=0.078, fill=0.0, flip=False, label_smoothing=0.0, ema=0.998,
                    teacher=studies/step_3_generalise/teacher.safetensors#54547b938dd5, distill=0.6, temperature=4.0
        trained by  budgetnet 0.1.1, torch 2.15.0, numba 0.68.1, python 3.11.7, 1 thread of AMD EPYC
        weights     Frontier_4000.safetensors, of seed 0, the first, after its last epoch
                    sha256 d146f5082a26bc4fdb9c3f115b59869c63d51dc25feb4cc2e55519d41d05d737
        evidence    Frontier_4000.json, all that was recorded
                    sha256 7e677bebf5143771800c87cf637d9803733cc5db074c72fed5ebb158d3effb02
    """

    input_shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),  #   28 × 28, jump  1, receptive field  3
            nn.BatchNorm2d(8),
            nn.SiLU(),
        )
        self.stage1 = nn.Sequential(
            nn.Conv2d(8, 11, 3, padding=1, bias=False),  #  28 × 28, jump  1, receptive field  5
            nn.BatchNorm2d(11),
            nn.SiLU(),
        )
        self.stage2 = nn.Sequential(
            nn.MaxPool2d(2),  #                             14 × 14, jump  2, receptive field  6
            nn.Conv2d(11, 11, 3, groups=11, bias=False),  # 12 × 12, jump  2, receptive field 10
            nn.BatchNorm2d(11),
            nn.SiLU(),
            nn.Conv2d(11, 23, 1, bias=False),  #            12 × 12, jump  2, receptive field 10
            nn.BatchNorm2d(23),
            nn.SiLU(),
            nn.Conv2d(23, 23, 3, groups=23, bias=False),  # 10 × 10, jump  2, receptive field 14
            nn.BatchNorm2d(23),
            nn.SiLU(),
            nn.Conv2d(23, 23, 1, bias=False),  #            10 × 10, jump  2, receptive field 14
            nn.BatchNorm2d(23),
            nn.SiLU(),
            nn.Conv2d(23, 23, 3, groups=23, bias=False),  #   8 × 8, jump  2, receptive field 18
            nn.BatchNorm2d(23),
            nn.SiLU(),
            nn.Conv2d(23, 22, 1, bias=False),  #              8 × 8, jump  2, receptive field 18
            nn.BatchNorm2d(22),
            nn.SiLU(),
            nn.Conv2d(22, 22, 3, groups=22, bias=False),  #   6 × 6, jump  2, receptive field 22
            nn.BatchNorm2d(22),
            nn.SiLU(),
            nn.Conv2d(22, 23, 1, bias=False),  #              6 × 6, jump  2, receptive field 22
            nn.BatchNorm2d(23),
            nn.SiLU(),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  #                       1 × 1, jump 12, receptive field 32
            nn.Flatten(),
            nn.Linear(23, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) images → (N, 10) logits."""
        x = self.stem(x)  #              (N, 8, 28, 28)
        x = self.stage1(x)  #            (N, 11, 28, 28)
        x = self.stage2(x)  #            (N, 23, 6, 6)
        logits: Tensor = self.head(x)  # (N, 10)
        return logits


class Frontier_2000(nn.Module):
    """(N, 1, 28, 28) images → (N, 10) logits, 1,978 params.

    Target: at least 99 % of the test images in every one of the last 5 of 15 epochs, with fewer than 2,000 params.
    Whether every one of the last epochs can hold the target with a budget of 2,000 is the question of this study.

    Result: 99.26 ± 0.06 % (mean ± standard deviation of the last epoch over 10 seeds, 10,000 test images).
        params       1,978 / 2,000
        MACs         473,509
        activations  8,788 at the peak
        best train   99.09 % (running figure of an epoch: changing weights, images as augmented)
        clean train  99.23 % (mean of the last weights, images as they are)
        best test    99.38 % (chosen on test, so it flatters)
        lowest       99.15 % in the last 5 epochs of any seed
        held         10 of 10 seeds
        seed 0       99.31 99.27 99.26 99.28 99.27 % (last 5 epochs)
        seed 1       99.32 99.31 99.31 99.33 99.34 % (last 5 epochs)
        seed 2       99.18 99.21 99.19 99.20 99.19 % (last 5 epochs)
        seed 3       99.27 99.25 99.25 99.22 99.24 % (last 5 epochs)
        seed 4       99.21 99.22 99.25 99.25 99.24 % (last 5 epochs)
        seed 5       99.16 99.21 99.23 99.24 99.25 % (last 5 epochs)
        seed 6       99.27 99.26 99.27 99.29 99.32 % (last 5 epochs)
        seed 7       99.35 99.34 99.31 99.35 99.35 % (last 5 epochs)
        seed 8       99.19 99.20 99.15 99.17 99.16 % (last 5 epochs)
        seed 9       99.30 99.32 99.30 99.27 99.27 % (last 5 epochs)

    Analysis:
    - The target held in 10 of 10 seeds (95 % Wilson interval of the share of seeds: 72.2 % to 100.0 %): from 10 seeds
      nobody may conclude that it always does.
    - Between seeds the last epoch varies by 0.06 points (standard deviation); the 95 % interval of its mean, by
      Student's t, is 99.22 to 99.31 %.
    - No overfitting beyond noise: on images as they are, the last weights classify 99.23 % of the training and 99.26 %
      of the test images, 0.03 points apart, within two standard errors of 10,000 images (0.09 points each).
    - No trend beyond the noise between seeds: mean test accuracy is 99.26 % at the first and 99.26 % at the last of the
      5 epochs (95 % interval of the rise -0.02 to +0.04 points, paired by seed, p 0.610).
    - Steady: no seed moved by more than 0.09 points within the last 5 epochs. Naming each seed's best epoch instead of
      its last would flatter it by 0.03 points on average.
    - It uses 1,978 / 2,000 params, 98.9 % of the budget, nearly all of it; 22 are left.
    - The receptive field of a cell of the last map (13 × 13) is 22 × 22 pixels, the image 28 × 28: no cell sees all of
      it, and only the head joins the parts.
    - Changed against Frontier_4000: [bn-silu] 5 c8 M s15 s14 s14 s14 | gap fc:10 (1,978 params) for [bn-silu] c8 c11 M
      vs23 vs23 vs22 vs23 | gap fc:10 (3,987); in the recipe learning_rate 0.18 → 0.3, weight_decay 6.6e-05 → 5e-05,
      rotation 9.7 → 8, scale 0.12 → 0.08, shift 0.056 → 0.03, shear 0.078 → 0.08, ema 0.998 → 0.995, teacher
      studies/step_3_generalise/teacher.safetensors#54547b938dd5 → studies/frontier/teacher.safetensors#fdc6eca26fbb.
    - Over 10 shared seeds it ends 0.23 points below Frontier_4000: larger than the noise between seeds (95 % interval
      -0.28 to -0.18 points, paired by seed, p < 0.001) and between images: 45 test images are classified correctly by
      more of its seeds, 144 by more of Frontier_4000's (exact paired test over images, p < 0.001).

    Receptive field:
        layer      kind                output  jump  sees
        stem.0     Conv2d 3 × 3       26 × 26     1     3
        stage1.0   Conv2d 3 × 3       26 × 26     1     5
        stage2.0   MaxPool2d 2 × 2    13 × 13     2     6
        stage2.1   Conv2d 3 × 3       13 × 13     2    10
        stage2.4   Conv2d 1 × 1       13 × 13     2    10
        stage2.7   Conv2d 3 × 3       13 × 13     2    14
        stage2.10  Conv2d 1 × 1       13 × 13     2    14
        stage2.13  Conv2d 3 × 3       13 × 13     2    18
        stage2.16  Conv2d 1 × 1       13 × 13     2    18
        stage2.19  Conv2d 3 × 3       13 × 13     2    22
        stage2.22  Conv2d 1 × 1       13 × 13     2    22
        head.0     AdaptiveAvgPool2d    1 × 1    26    46
        head.2     Linear                  10    26    46

    Origin:
        study       frontier/params_2000, trial 0, search seed 4, validation accuracy 99.15 %
        data        mnist; retrained on all training images, seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; test read once an
                    epoch, to report
        network     [bn-silu] 5 c8 M s15 s14 s14 s14 | gap fc:10
        input       pixels from 0 to 1, less 0.1307, over 0.3081
        recipe      learning_rate=0.3, batch_size=64, epochs=15, optimizer=sgd, momentum=0.9, nesterov=True,
                    weight_decay=5e-05, schedule=onecycle, warmup=0.2, step_size=6, gamma=0.1, rotation=8.0, scale=0.08,
                    shift=0.03, shear=0.08, fill=0.0, flip=False, label_smoothing=0.0, ema=0.995,
                    teacher=studies/frontier/teacher.safetensors#fdc6eca26fbb, distill=0.6, temperature=4.0
        trained by  budgetnet 0.1.1, torch 2.15.0, numba 0.68.1, python 3.11.7, 1 thread of AMD EPYC
        weights     Frontier_2000.safetensors, of seed 0, the first, after its last epoch
                    sha256 ae554368cbe23c76345c33e7416e1f49a65a3bae462d8ae694b323f8e7347ea0
        evidence    Frontier_2000.json, all that was recorded
                    sha256 5410941f3deec7647bfd2813d26987e416e3b8be0e9833868477483025811c43
    """

    input_shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 5, 3, bias=False),  #                         26 × 26, jump  1, receptive field  3
            nn.BatchNorm2d(5),
            nn.SiLU(),
        )
        self.stage1 = nn.Sequential(
            nn.Conv2d(5, 8, 3, padding=1, bias=False),  #              26 × 26, jump  1, receptive field  5
            nn.BatchNorm2d(8),
            nn.SiLU(),
        )
        self.stage2 = nn.Sequential(
            nn.MaxPool2d(2),  #                                        13 × 13, jump  2, receptive field  6
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),  #    13 × 13, jump  2, receptive field 10
            nn.BatchNorm2d(8),
            nn.SiLU(),
            nn.Conv2d(8, 15, 1, bias=False),  #                        13 × 13, jump  2, receptive field 10
            nn.BatchNorm2d(15),
            nn.SiLU(),
            nn.Conv2d(15, 15, 3, padding=1, groups=15, bias=False),  # 13 × 13, jump  2, receptive field 14
            nn.BatchNorm2d(15),
            nn.SiLU(),
            nn.Conv2d(15, 14, 1, bias=False),  #                       13 × 13, jump  2, receptive field 14
            nn.BatchNorm2d(14),
            nn.SiLU(),
            nn.Conv2d(14, 14, 3, padding=1, groups=14, bias=False),  # 13 × 13, jump  2, receptive field 18
            nn.BatchNorm2d(14),
            nn.SiLU(),
            nn.Conv2d(14, 14, 1, bias=False),  #                       13 × 13, jump  2, receptive field 18
            nn.BatchNorm2d(14),
            nn.SiLU(),
            nn.Conv2d(14, 14, 3, padding=1, groups=14, bias=False),  # 13 × 13, jump  2, receptive field 22
            nn.BatchNorm2d(14),
            nn.SiLU(),
            nn.Conv2d(14, 14, 1, bias=False),  #                       13 × 13, jump  2, receptive field 22
            nn.BatchNorm2d(14),
            nn.SiLU(),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  #                                  1 × 1, jump 26, receptive field 46
            nn.Flatten(),
            nn.Linear(14, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) images → (N, 10) logits."""
        x = self.stem(x)  #              (N, 5, 26, 26)
        x = self.stage1(x)  #            (N, 8, 26, 26)
        x = self.stage2(x)  #            (N, 14, 13, 13)
        logits: Tensor = self.head(x)  # (N, 10)
        return logits


class Frontier_500(nn.Module):
    """(N, 1, 28, 28) images → (N, 10) logits, 477 params.

    Target: at least 99 % of the test images in the last of 15 epochs, with fewer than 500 params. How close the last
    epoch comes to the target with a budget of 500 is the question of this study.

    Result: 97.12 ± 0.24 % (mean ± standard deviation of the last epoch over 10 seeds, 10,000 test images).
        params       477 / 500
        MACs         101,652
        activations  2,504 at the peak
        best train   97.05 % (running figure of an epoch: changing weights, images as augmented)
        clean train  96.77 % (mean of the last weights, images as they are)
        best test    97.66 % (chosen on test, so it flatters)
        lowest       96.74 % in the last epoch of any seed
        held         0 of 10 seeds
        seed 0       97.60 % (last epoch)
        seed 1       97.24 % (last epoch)
        seed 2       96.98 % (last epoch)
        seed 3       97.03 % (last epoch)
        seed 4       97.19 % (last epoch)
        seed 5       96.94 % (last epoch)
        seed 6       97.08 % (last epoch)
        seed 7       97.08 % (last epoch)
        seed 8       96.74 % (last epoch)
        seed 9       97.36 % (last epoch)

    Analysis:
    - The target held in 0 of 10 seeds (95 % Wilson interval of the share of seeds: 0.0 % to 27.8 %): it is missed, and
      this network is no proof that the target can be held.
    - Between seeds the last epoch varies by 0.24 points (standard deviation); the 95 % interval of its mean, by
      Student's t, is 96.95 to 97.30 %.
    - No overfitting: on images as they are, the last weights classify 96.77 % of the training and 97.12 % of the test
      images, which lie 0.35 points higher, beyond two standard errors of 10,000 images (0.17 points each): the training
      images are harder. It underfits: even the training images stay below the target of 99 %, so capacity, epochs or
      recipe limit it, not memorising.
    - It uses 477 / 500 params, 95.4 % of the budget, nearly all of it; 23 are left.
    - The receptive field of a cell of the last map (4 × 4) is 40 × 40 pixels, padding included, the image 28 × 28: 16
      of the 16 cells see all of it.
    - Changed against Frontier_2000: [bn-silu] 2 2 M c3^5 M 6 | gap fc:10 (477 params) for [bn-silu] 5 c8 M s15 s14 s14
      s14 | gap fc:10 (1,978); in the recipe learning_rate 0.3 → 0.3989, weight_decay 5e-05 → 1.9e-06, rotation 8 →
      1.141, scale 0.08 → 0.03833, shift 0.03 → 0.01713, shear 0.08 → 0.03035, ema 0.995 → 0.998, distill 0.6 → 1,
      temperature 4 → 3.
    - Over 10 shared seeds it ends 2.14 points below Frontier_2000: larger than the noise between seeds (95 % interval
      -2.29 to -1.98 points, paired by seed, p < 0.001) and between images: 59 test images are classified correctly by
      more of its seeds, 999 by more of Frontier_2000's (exact paired test over images, p < 0.001).

    Receptive field:
        layer       kind                output  jump  sees
        stem.0      Conv2d 3 × 3       26 × 26     1     3
        stage1.0    Conv2d 3 × 3       24 × 24     1     5
        stage2.0    MaxPool2d 2 × 2    12 × 12     2     6
        stage2.1    Conv2d 3 × 3       12 × 12     2    10
        stage2.4    Conv2d 3 × 3       12 × 12     2    14
        stage2.4@2  Conv2d 3 × 3       12 × 12     2    18
        stage2.4@3  Conv2d 3 × 3       12 × 12     2    22
        stage2.4@4  Conv2d 3 × 3       12 × 12     2    26
        stage2.4@5  Conv2d 3 × 3       12 × 12     2    30
        stage3.0    MaxPool2d 2 × 2      6 × 6     4    32
        stage3.1    Conv2d 3 × 3         4 × 4     4    40
        head.0      AdaptiveAvgPool2d    1 × 1    16    52
        head.2      Linear                  10    16    52

    Origin:
        study       frontier/params_500, trial 10, search seed 4, validation accuracy 96.75 %
        data        mnist; retrained on all training images, seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; test read once an
                    epoch, to report
        network     [bn-silu] 2 2 M c3^5 M 6 | gap fc:10
        input       pixels from 0 to 1, less 0.1307, over 0.3081
        recipe      learning_rate=0.39893566537493247, batch_size=64, epochs=15, optimizer=sgd, momentum=0.9,
                    nesterov=True, weight_decay=1.9002620714155535e-06, schedule=onecycle, warmup=0.2, step_size=6,
                    gamma=0.1, rotation=1.1407799735542892, scale=0.03833178618861571, shift=0.017126199257688015,
                    shear=0.03034842424669544, fill=0.0, flip=False, label_smoothing=0.0, ema=0.998,
                    teacher=studies/frontier/teacher.safetensors#fdc6eca26fbb, distill=1.0, temperature=3.0
        trained by  budgetnet 0.1.1, torch 2.15.0, numba 0.68.1, python 3.11.7, 1 thread of AMD EPYC
        weights     Frontier_500.safetensors, of seed 0, the first, after its last epoch
                    sha256 242cb6b61eac3d579438d01fb39bbbec9ef9a5fcb2da2fc6905505a1ae8daffe
        evidence    Frontier_500.json, all that was recorded
                    sha256 982cefcd2d6d94dda07a42df6bde9f017f8dd2b352d34246729f9453fee699ed
    """

    input_shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 2, 3, bias=False),  #            26 × 26, jump  1, receptive field  3
            nn.BatchNorm2d(2),
            nn.SiLU(),
        )
        self.stage1 = nn.Sequential(
            nn.Conv2d(2, 2, 3, bias=False),  #            24 × 24, jump  1, receptive field  5
            nn.BatchNorm2d(2),
            nn.SiLU(),
        )
        shared = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.stage2 = nn.Sequential(
            nn.MaxPool2d(2),  #                           12 × 12, jump  2, receptive field  6
            nn.Conv2d(2, 3, 3, padding=1, bias=False),  # 12 × 12, jump  2, receptive field 10
            nn.BatchNorm2d(3),
            nn.SiLU(),
            shared,  #                                    12 × 12, jump  2, receptive field 14
            nn.BatchNorm2d(3),
            nn.SiLU(),
            shared,  #                                    12 × 12, jump  2, receptive field 18
            nn.BatchNorm2d(3),
            nn.SiLU(),
            shared,  #                                    12 × 12, jump  2, receptive field 22
            nn.BatchNorm2d(3),
            nn.SiLU(),
            shared,  #                                    12 × 12, jump  2, receptive field 26
            nn.BatchNorm2d(3),
            nn.SiLU(),
            shared,  #                                    12 × 12, jump  2, receptive field 30
            nn.BatchNorm2d(3),
            nn.SiLU(),
        )
        self.stage3 = nn.Sequential(
            nn.MaxPool2d(2),  #                             6 × 6, jump  4, receptive field 32
            nn.Conv2d(3, 6, 3, bias=False),  #              4 × 4, jump  4, receptive field 40
            nn.BatchNorm2d(6),
            nn.SiLU(),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  #                     1 × 1, jump 16, receptive field 52
            nn.Flatten(),
            nn.Linear(6, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) images → (N, 10) logits."""
        x = self.stem(x)  #              (N, 2, 26, 26)
        x = self.stage1(x)  #            (N, 2, 24, 24)
        x = self.stage2(x)  #            (N, 3, 12, 12)
        x = self.stage3(x)  #            (N, 6, 4, 4)
        logits: Tensor = self.head(x)  # (N, 10)
        return logits


class Frontier_3000(nn.Module):
    """(N, 1, 28, 28) images → (N, 10) logits, 2,988 params.

    Target: at least 99.4 % of the test images in every one of the last 5 of 15 epochs, with fewer than 3,000 params.
    Whether every one of the last epochs can hold the target with a budget of 3,000 is the question of this study.

    Result: 99.43 ± 0.05 % (mean ± standard deviation of the last epoch over 10 seeds, 10,000 test images).
        params       2,988 / 3,000
        MACs         447,539
        activations  8,112 at the peak
        best train   99.27 % (running figure of an epoch: changing weights, images as augmented)
        clean train  99.45 % (mean of the last weights, images as they are)
        best test    99.52 % (chosen on test, so it flatters)
        lowest       99.35 % in the last 5 epochs of any seed
        held         6 of 10 seeds
        seed 0       99.39 99.39 99.38 99.36 99.36 % (last 5 epochs)
        seed 1       99.38 99.39 99.41 99.41 99.41 % (last 5 epochs)
        seed 2       99.35 99.36 99.35 99.36 99.35 % (last 5 epochs)
        seed 3       99.43 99.43 99.43 99.42 99.42 % (last 5 epochs)
        seed 4       99.41 99.40 99.41 99.43 99.44 % (last 5 epochs)
        seed 5       99.39 99.43 99.43 99.44 99.43 % (last 5 epochs)
        seed 6       99.43 99.41 99.43 99.44 99.44 % (last 5 epochs)
        seed 7       99.46 99.45 99.50 99.48 99.47 % (last 5 epochs)
        seed 8       99.49 99.50 99.51 99.52 99.49 % (last 5 epochs)
        seed 9       99.51 99.49 99.49 99.51 99.50 % (last 5 epochs)

    Analysis:
    - The target held in 6 of 10 seeds (95 % Wilson interval of the share of seeds: 31.3 % to 83.2 %): whether it holds
      depends on the seed; the lowest of the last 5 epochs is 99.35 %.
    - Between seeds the last epoch varies by 0.05 points (standard deviation); the 95 % interval of its mean, by
      Student's t, is 99.40 to 99.47 %.
    - No overfitting beyond noise: on images as they are, the last weights classify 99.45 % of the training and 99.43 %
      of the test images, 0.02 points apart, within two standard errors of 10,000 images (0.08 points each).
    - No trend beyond the noise between seeds: mean test accuracy is 99.42 % at the first and 99.43 % at the last of the
      5 epochs (95 % interval of the rise -0.01 to +0.02 points, paired by seed, p 0.333).
    - Steady: no seed moved by more than 0.05 points within the last 5 epochs. Naming each seed's best epoch instead of
      its last would flatter it by 0.02 points on average.
    - It uses 2,988 / 3,000 params, 99.6 % of the budget, nearly all of it; 12 are left.
    - The receptive field of a cell of the last map (6 × 6) is 36 × 36 pixels, padding included, the image 28 × 28: 4 of
      the 36 cells see all of it.
    - Changed against Frontier_500: [bn-silu] 5 c7 M s16 s16 s16 M s21 s20 | gap fc:10 (2,988 params) for [bn-silu] 2 2
      M c3^5 M 6 | gap fc:10 (477); in the recipe learning_rate 0.3989 → 0.2885, weight_decay 1.9e-06 → 1.213e-06,
      rotation 1.141 → 8.917, scale 0.03833 → 0.09419, shift 0.01713 → 0.03999, shear 0.03035 → 0.0662, distill 1 → 0.6.
    - Over 10 shared seeds it ends 2.31 points above Frontier_500: larger than the noise between seeds (95 % interval
      +2.12 to +2.49 points, paired by seed, p < 0.001) and between images: 1,020 test images are classified correctly
      by more of its seeds, 38 by more of Frontier_500's (exact paired test over images, p < 0.001).

    Receptive field:
        layer      kind                output  jump  sees
        stem.0     Conv2d 3 × 3       26 × 26     1     3
        stage1.0   Conv2d 3 × 3       26 × 26     1     5
        stage2.0   MaxPool2d 2 × 2    13 × 13     2     6
        stage2.1   Conv2d 3 × 3       13 × 13     2    10
        stage2.4   Conv2d 1 × 1       13 × 13     2    10
        stage2.7   Conv2d 3 × 3       13 × 13     2    14
        stage2.10  Conv2d 1 × 1       13 × 13     2    14
        stage2.13  Conv2d 3 × 3       13 × 13     2    18
        stage2.16  Conv2d 1 × 1       13 × 13     2    18
        stage3.0   MaxPool2d 2 × 2      6 × 6     4    20
        stage3.1   Conv2d 3 × 3         6 × 6     4    28
        stage3.4   Conv2d 1 × 1         6 × 6     4    28
        stage3.7   Conv2d 3 × 3         6 × 6     4    36
        stage3.10  Conv2d 1 × 1         6 × 6     4    36
        head.0     AdaptiveAvgPool2d    1 × 1    24    56
        head.2     Linear                  10    24    56

    Origin:
        study       frontier/params_3000, trial 7, search seed 4, validation accuracy 99.34 %
        data        mnist; retrained on all training images, seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; test read once an
                    epoch, to report
        network     [bn-silu] 5 c7 M s16 s16 s16 M s21 s20 | gap fc:10
        input       pixels from 0 to 1, less 0.1307, over 0.3081
        recipe      learning_rate=0.2885135518239735, batch_size=64, epochs=15, optimizer=sgd, momentum=0.9,
                    nesterov=True, weight_decay=1.2131624719608907e-06, schedule=onecycle, warmup=0.2, step_size=6,
                    gamma=0.1, rotation=8.917361722517452, scale=0.09418831219973431, shift=0.039993503766015605,
                    shear=0.0662011056559005, fill=0.0, flip=False, label_smoothing=0.0, ema=0.998,
                    teacher=studies/frontier/teacher.safetensors#fdc6eca26fbb, distill=0.6, temperature=3.0
        trained by  budgetnet 0.1.1, torch 2.15.0, numba 0.68.1, python 3.11.7, 1 thread of AMD EPYC
        weights     Frontier_3000.safetensors, of seed 0, the first, after its last epoch
                    sha256 f140c5e4b8f7d5de949fa6439a452bb4e50748b8aabefb07d3e6f215e03e52fb
        evidence    Frontier_3000.json, all that was recorded
                    sha256 340d98a6757cc89ea1ce37ca292a018c06e83ddb612cb35fdd4a5aac9c268fad
    """

    input_shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 5, 3, bias=False),  #                         26 × 26, jump  1, receptive field  3
            nn.BatchNorm2d(5),
            nn.SiLU(),
        )
        self.stage1 = nn.Sequential(
            nn.Conv2d(5, 7, 3, padding=1, bias=False),  #              26 × 26, jump  1, receptive field  5
            nn.BatchNorm2d(7),
            nn.SiLU(),
        )
        self.stage2 = nn.Sequential(
            nn.MaxPool2d(2),  #                                        13 × 13, jump  2, receptive field  6
            nn.Conv2d(7, 7, 3, padding=1, groups=7, bias=False),  #    13 × 13, jump  2, receptive field 10
            nn.BatchNorm2d(7),
            nn.SiLU(),
            nn.Conv2d(7, 16, 1, bias=False),  #                        13 × 13, jump  2, receptive field 10
            nn.BatchNorm2d(16),
            nn.SiLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),  # 13 × 13, jump  2, receptive field 14
            nn.BatchNorm2d(16),
            nn.SiLU(),
            nn.Conv2d(16, 16, 1, bias=False),  #                       13 × 13, jump  2, receptive field 14
            nn.BatchNorm2d(16),
            nn.SiLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),  # 13 × 13, jump  2, receptive field 18
            nn.BatchNorm2d(16),
            nn.SiLU(),
            nn.Conv2d(16, 16, 1, bias=False),  #                       13 × 13, jump  2, receptive field 18
            nn.BatchNorm2d(16),
            nn.SiLU(),
        )
        self.stage3 = nn.Sequential(
            nn.MaxPool2d(2),  #                                          6 × 6, jump  4, receptive field 20
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),  #   6 × 6, jump  4, receptive field 28
            nn.BatchNorm2d(16),
            nn.SiLU(),
            nn.Conv2d(16, 21, 1, bias=False),  #                         6 × 6, jump  4, receptive field 28
            nn.BatchNorm2d(21),
            nn.SiLU(),
            nn.Conv2d(21, 21, 3, padding=1, groups=21, bias=False),  #   6 × 6, jump  4, receptive field 36
            nn.BatchNorm2d(21),
            nn.SiLU(),
            nn.Conv2d(21, 20, 1, bias=False),  #                         6 × 6, jump  4, receptive field 36
            nn.BatchNorm2d(20),
            nn.SiLU(),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  #                                  1 × 1, jump 24, receptive field 56
            nn.Flatten(),
            nn.Linear(20, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) images → (N, 10) logits."""
        x = self.stem(x)  #              (N, 5, 26, 26)
        x = self.stage1(x)  #            (N, 7, 26, 26)
        x = self.stage2(x)  #            (N, 16, 13, 13)
        x = self.stage3(x)  #            (N, 20, 6, 6)
        logits: Tensor = self.head(x)  # (N, 10)
        return logits


class Frontier_6000(nn.Module):
    """(N, 1, 28, 28) images → (N, 10) logits, 5,993 params.

    Target: at least 99.4 % of the test images in every one of the last 5 of 15 epochs, with fewer than 6,000 params.
    Whether every one of the last epochs can hold the target with a budget of 6,000, and in every seed, is the question
    of this study.

    Result: 99.53 ± 0.04 % (mean ± standard deviation of the last epoch over 10 seeds, 10,000 test images).
        params       5,993 / 6,000
        MACs         1,761,704
        activations  21,952 at the peak
        best train   99.46 % (running figure of an epoch: changing weights, images as augmented)
        clean train  99.61 % (mean of the last weights, images as they are)
        best test    99.59 % (chosen on test, so it flatters)
        lowest       99.43 % in the last 5 epochs of any seed
        held         10 of 10 seeds
        seed 0       99.54 99.53 99.55 99.54 99.54 % (last 5 epochs)
        seed 1       99.54 99.51 99.54 99.55 99.55 % (last 5 epochs)
        seed 2       99.57 99.58 99.58 99.59 99.59 % (last 5 epochs)
        seed 3       99.45 99.45 99.43 99.44 99.44 % (last 5 epochs)
        seed 4       99.56 99.54 99.54 99.54 99.54 % (last 5 epochs)
        seed 5       99.58 99.57 99.57 99.56 99.58 % (last 5 epochs)
        seed 6       99.54 99.56 99.55 99.55 99.55 % (last 5 epochs)
        seed 7       99.56 99.55 99.54 99.53 99.54 % (last 5 epochs)
        seed 8       99.46 99.47 99.47 99.47 99.48 % (last 5 epochs)
        seed 9       99.52 99.50 99.52 99.52 99.52 % (last 5 epochs)

    Analysis:
    - The target held in 10 of 10 seeds (95 % Wilson interval of the share of seeds: 72.2 % to 100.0 %): from 10 seeds
      nobody may conclude that it always does.
    - Between seeds the last epoch varies by 0.04 points (standard deviation); the 95 % interval of its mean, by
      Student's t, is 99.50 to 99.56 %.
    - No overfitting beyond noise: on images as they are, the last weights classify 99.61 % of the training and 99.53 %
      of the test images, 0.08 points apart, within two standard errors of 10,000 images (0.07 points each).
    - No trend beyond the noise between seeds: mean test accuracy is 99.53 % at the first and 99.53 % at the last of the
      5 epochs (95 % interval of the rise -0.01 to +0.01 points, paired by seed, p 0.832).
    - Steady: no seed moved by more than 0.04 points within the last 5 epochs. Naming each seed's best epoch instead of
      its last would flatter it by 0.02 points on average.
    - It uses 5,993 / 6,000 params, 99.9 % of the budget, nearly all of it; 7 are left.
    - The receptive field of a cell of the last map (8 × 8) is 18 × 18 pixels, the image 28 × 28: no cell sees all of
      it, and only the head joins the parts.
    - Changed against Frontier_3000: [bn-silu] c12 c16 M vs33 vs33 vs32 | gap fc:10 (5,993 params) for [bn-silu] 5 c7 M
      s16 s16 s16 M s21 s20 | gap fc:10 (2,988); in the recipe learning_rate 0.2885 → 0.1836, weight_decay 1.213e-06 →
      6.556e-05, rotation 8.917 → 9.676, scale 0.09419 → 0.1186, shift 0.03999 → 0.05625, shear 0.0662 → 0.07825,
      teacher studies/frontier/teacher.safetensors#fdc6eca26fbb →
      studies/step_3_generalise/teacher.safetensors#54547b938dd5, temperature 3 → 4.
    - Over 10 shared seeds it ends 0.10 points above Frontier_3000: larger than the noise between seeds (95 % interval
      +0.05 to +0.16 points, paired by seed, p 0.003) and between images: 103 test images are classified correctly by
      more of its seeds, 42 by more of Frontier_3000's (exact paired test over images, p 0.001).

    Receptive field:
        layer      kind                output  jump  sees
        stem.0     Conv2d 3 × 3       28 × 28     1     3
        stage1.0   Conv2d 3 × 3       28 × 28     1     5
        stage2.0   MaxPool2d 2 × 2    14 × 14     2     6
        stage2.1   Conv2d 3 × 3       12 × 12     2    10
        stage2.4   Conv2d 1 × 1       12 × 12     2    10
        stage2.7   Conv2d 3 × 3       10 × 10     2    14
        stage2.10  Conv2d 1 × 1       10 × 10     2    14
        stage2.13  Conv2d 3 × 3         8 × 8     2    18
        stage2.16  Conv2d 1 × 1         8 × 8     2    18
        head.0     AdaptiveAvgPool2d    1 × 1    16    32
        head.2     Linear                  10    16    32

    Origin:
        study       frontier/params_6000, trial 3, search seed 4, validation accuracy 99.53 %
        data        mnist; retrained on all training images, seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; test read once an
                    epoch, to report
        network     [bn-silu] c12 c16 M vs33 vs33 vs32 | gap fc:10
        input       pixels from 0 to 1, less 0.1307, over 0.3081
        recipe      learning_rate=0.18362015248929373, batch_size=64, epochs=15, optimizer=sgd, momentum=0.9,
                    nesterov=True, weight_decay=6.55649298273805e-05, schedule=onecycle, warmup=0.2, step_size=6,
                    gamma=0.1, rotation=9.675994741368132, scale=0.11862814704432965, shift=0.05625429503705651,
                    shear=0.0782544183667437, fill=0.0, flip=False, label_smoothing=0.0, ema=0.998,
                    teacher=studies/step_3_generalise/teacher.safetensors#54547b938dd5, distill=0.6, temperature=4.0
        trained by  budgetnet 0.1.1, torch 2.15.0, numba 0.68.1, python 3.11.7, 1 thread of AMD EPYC
        weights     Frontier_6000.safetensors, of seed 0, the first, after its last epoch
                    sha256 6e5106409db7dd87c0cc5460b7e68b2676e0933a8213f371a9a52ff6664b1b21
        evidence    Frontier_6000.json, all that was recorded
                    sha256 45e9ee221f714cf314f6acf187862620e23fdbae4f7cc232146172d8b457735b
    """

    input_shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1, bias=False),  #  28 × 28, jump  1, receptive field  3
            nn.BatchNorm2d(12),
            nn.SiLU(),
        )
        self.stage1 = nn.Sequential(
            nn.Conv2d(12, 16, 3, padding=1, bias=False),  # 28 × 28, jump  1, receptive field  5
            nn.BatchNorm2d(16),
            nn.SiLU(),
        )
        self.stage2 = nn.Sequential(
            nn.MaxPool2d(2),  #                             14 × 14, jump  2, receptive field  6
            nn.Conv2d(16, 16, 3, groups=16, bias=False),  # 12 × 12, jump  2, receptive field 10
            nn.BatchNorm2d(16),
            nn.SiLU(),
            nn.Conv2d(16, 33, 1, bias=False),  #            12 × 12, jump  2, receptive field 10
            nn.BatchNorm2d(33),
            nn.SiLU(),
            nn.Conv2d(33, 33, 3, groups=33, bias=False),  # 10 × 10, jump  2, receptive field 14
            nn.BatchNorm2d(33),
            nn.SiLU(),
            nn.Conv2d(33, 33, 1, bias=False),  #            10 × 10, jump  2, receptive field 14
            nn.BatchNorm2d(33),
            nn.SiLU(),
            nn.Conv2d(33, 33, 3, groups=33, bias=False),  #   8 × 8, jump  2, receptive field 18
            nn.BatchNorm2d(33),
            nn.SiLU(),
            nn.Conv2d(33, 32, 1, bias=False),  #              8 × 8, jump  2, receptive field 18
            nn.BatchNorm2d(32),
            nn.SiLU(),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  #                       1 × 1, jump 16, receptive field 32
            nn.Flatten(),
            nn.Linear(32, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) images → (N, 10) logits."""
        x = self.stem(x)  #              (N, 12, 28, 28)
        x = self.stage1(x)  #            (N, 16, 28, 28)
        x = self.stage2(x)  #            (N, 32, 8, 8)
        logits: Tensor = self.head(x)  # (N, 10)
        return logits


class Frontier_8000(nn.Module):
    """(N, 1, 28, 28) images → (N, 10) logits, 7,979 params.

    Target: at least 99.4 % of the test images in every one of the last 5 of 15 epochs, with fewer than 8,000 params.
    Whether every one of the last epochs can hold the target with a budget of 8,000, and in every seed, is the question
    of this study.

    Result: 99.55 ± 0.06 % (mean ± standard deviation of the last epoch over 10 seeds, 10,000 test images).
        params       7,979 / 8,000
        MACs         1,922,100
        activations  22,736 at the peak
        best train   99.53 % (running figure of an epoch: changing weights, images as augmented)
        clean train  99.65 % (mean of the last weights, images as they are)
        best test    99.68 % (chosen on test, so it flatters)
        lowest       99.45 % in the last 5 epochs of any seed
        held         10 of 10 seeds
        seed 0       99.55 99.56 99.52 99.56 99.55 % (last 5 epochs)
        seed 1       99.61 99.54 99.56 99.55 99.57 % (last 5 epochs)
        seed 2       99.58 99.57 99.59 99.58 99.59 % (last 5 epochs)
        seed 3       99.57 99.55 99.57 99.58 99.59 % (last 5 epochs)
        seed 4       99.55 99.56 99.53 99.53 99.54 % (last 5 epochs)
        seed 5       99.48 99.46 99.50 99.49 99.48 % (last 5 epochs)
        seed 6       99.66 99.66 99.68 99.68 99.68 % (last 5 epochs)
        seed 7       99.62 99.61 99.58 99.56 99.55 % (last 5 epochs)
        seed 8       99.46 99.45 99.47 99.47 99.47 % (last 5 epochs)
        seed 9       99.53 99.53 99.50 99.51 99.51 % (last 5 epochs)

    Analysis:
    - The target held in 10 of 10 seeds (95 % Wilson interval of the share of seeds: 72.2 % to 100.0 %): from 10 seeds
      nobody may conclude that it always does.
    - Between seeds the last epoch varies by 0.06 points (standard deviation); the 95 % interval of its mean, by
      Student's t, is 99.51 to 99.60 %.
    - No overfitting beyond noise: on images as they are, the last weights classify 99.65 % of the training and 99.55 %
      of the test images, 0.10 points apart, within two standard errors of 10,000 images (0.07 points each).
    - No trend beyond the noise between seeds: mean test accuracy is 99.56 % at the first and 99.55 % at the last of the
      5 epochs (95 % interval of the rise -0.03 to +0.01 points, paired by seed, p 0.399).
    - Steady: no seed moved by more than 0.07 points within the last 5 epochs. Naming each seed's best epoch instead of
      its last would flatter it by 0.04 points on average.
    - It uses 7,979 / 8,000 params, 99.7 % of the budget, nearly all of it; 21 are left.
    - The receptive field of a cell of the last map (6 × 6) is 22 × 22 pixels, the image 28 × 28: no cell sees all of
      it, and only the head joins the parts.
    - Changed against Frontier_6000: [bn-silu] c12 c17 M vs34 vs34 vs34 vs34 | gap fc:10 (7,979 params) for [bn-silu]
      c12 c16 M vs33 vs33 vs32 | gap fc:10 (5,993); in the recipe learning_rate 0.1836 → 0.18, weight_decay 6.556e-05 →
      6.6e-05, rotation 9.676 → 9.7, scale 0.1186 → 0.12, shift 0.05625 → 0.056, shear 0.07825 → 0.078.
    - Over 10 shared seeds it ends 0.02 points above Frontier_6000: not distinguishable (95 % interval -0.03 to
      +0.07 points, paired by seed, p 0.400); 50 test images are classified correctly by more of its seeds, 41 by more
      of Frontier_6000's (exact paired test over images, p 0.403).

    Receptive field:
        layer      kind                output  jump  sees
        stem.0     Conv2d 3 × 3       28 × 28     1     3
        stage1.0   Conv2d 3 × 3       28 × 28     1     5
        stage2.0   MaxPool2d 2 × 2    14 × 14     2     6
        stage2.1   Conv2d 3 × 3       12 × 12     2    10
        stage2.4   Conv2d 1 × 1       12 × 12     2    10
        stage2.7   Conv2d 3 × 3       10 × 10     2    14
        stage2.10  Conv2d 1 × 1       10 × 10     2    14
        stage2.13  Conv2d 3 × 3         8 × 8     2    18
        stage2.16  Conv2d 1 × 1         8 × 8     2    18
        stage2.19  Conv2d 3 × 3         6 × 6     2    22
        stage2.22  Conv2d 1 × 1         6 × 6     2    22
        head.0     AdaptiveAvgPool2d    1 × 1    12    32
        head.2     Linear                  10    12    32

    Origin:
        study       frontier/params_8000, trial 3, search seed 4, validation accuracy 99.55 %
        data        mnist; retrained on all training images, seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; test read once an
                    epoch, to report
        network     [bn-silu] c12 c17 M vs34 vs34 vs34 vs34 | gap fc:10
        input       pixels from 0 to 1, less 0.1307, over 0.3081
        recipe      learning_rate=0.18, batch_size=64, epochs=15, optimizer=sgd, momentum=0.9, nesterov=True,
                    weight_decay=6.6e-05, schedule=onecycle, warmup=0.2, step_size=6, gamma=0.1, rotation=9.7,
                    scale=0.12, shift=0.056, shear=0.078, fill=0.0, flip=False, label_smoothing=0.0, ema=0.998,
                    teacher=studies/step_3_generalise/teacher.safetensors#54547b938dd5, distill=0.6, temperature=4.0
        trained by  budgetnet 0.1.1, torch 2.15.0, numba 0.68.1, python 3.11.7, 1 thread of AMD EPYC
        weights     Frontier_8000.safetensors, of seed 0, the first, after its last epoch
                    sha256 8edf523ff8f83551ff7494980225625fd1bb4c4e9c251e05a917f9f3b0889007
        evidence    Frontier_8000.json, all that was recorded
                    sha256 a978c46c4f5037d08520b9e68cd62e5eab4884c9e3877d9957549b87a397a79b
    """

    input_shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1, bias=False),  #  28 × 28, jump  1, receptive field  3
            nn.BatchNorm2d(12),
            nn.SiLU(),
        )
        self.stage1 = nn.Sequential(
            nn.Conv2d(12, 17, 3, padding=1, bias=False),  # 28 × 28, jump  1, receptive field  5
            nn.BatchNorm2d(17),
            nn.SiLU(),
        )
        self.stage2 = nn.Sequential(
            nn.MaxPool2d(2),  #                             14 × 14, jump  2, receptive field  6
            nn.Conv2d(17, 17, 3, groups=17, bias=False),  # 12 × 12, jump  2, receptive field 10
            nn.BatchNorm2d(17),
            nn.SiLU(),
            nn.Conv2d(17, 34, 1, bias=False),  #            12 × 12, jump  2, receptive field 10
            nn.BatchNorm2d(34),
            nn.SiLU(),
            nn.Conv2d(34, 34, 3, groups=34, bias=False),  # 10 × 10, jump  2, receptive field 14
            nn.BatchNorm2d(34),
            nn.SiLU(),
            nn.Conv2d(34, 34, 1, bias=False),  #            10 × 10, jump  2, receptive field 14
            nn.BatchNorm2d(34),
            nn.SiLU(),
            nn.Conv2d(34, 34, 3, groups=34, bias=False),  #   8 × 8, jump  2, receptive field 18
            nn.BatchNorm2d(34),
            nn.SiLU(),
            nn.Conv2d(34, 34, 1, bias=False),  #              8 × 8, jump  2, receptive field 18
            nn.BatchNorm2d(34),
            nn.SiLU(),
            nn.Conv2d(34, 34, 3, groups=34, bias=False),  #   6 × 6, jump  2, receptive field 22
            nn.BatchNorm2d(34),
            nn.SiLU(),
            nn.Conv2d(34, 34, 1, bias=False),  #              6 × 6, jump  2, receptive field 22
            nn.BatchNorm2d(34),
            nn.SiLU(),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  #                       1 × 1, jump 12, receptive field 32
            nn.Flatten(),
            nn.Linear(34, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) images → (N, 10) logits."""
        x = self.stem(x)  #              (N, 12, 28, 28)
        x = self.stage1(x)  #            (N, 17, 28, 28)
        x = self.stage2(x)  #            (N, 34, 6, 6)
        logits: Tensor = self.head(x)  # (N, 10)
        return logits
