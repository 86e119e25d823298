"""Networks found by budgetnet; the weights and the evidence of each lie beside this file under its name."""

from torch import Tensor, nn


class Model_1(nn.Module):
    """(N, 1, 28, 28) images → (N, 10) logits, 24,958 params.

    Target: at least 99.4 % of the test images in the last of 15 epochs, with fewer than 30,000 params. The first
    question is the structure alone: whether a network trained plainly, with one constant learning rate and without
    augmentation, can end at 99.4 % at all, and what depth and field that takes. The budget comes after it.

    Result: 99.43 ± 0.08 % (mean ± standard deviation of the last epoch over 10 seeds, 10,000 test images).
        params       24,958 / 30,000
        MACs         5,696,710
        activations  24,192 at the peak
        best train   99.76 % (running figure of an epoch: changing weights, images as augmented)
        clean train  99.85 % (mean of the last weights, images as they are)
        best test    99.54 % (chosen on test, so it flatters)
        lowest       99.31 % in the last epoch of any seed
        held         7 of 10 seeds
        seed 0       99.54 % (last epoch)
        seed 1       99.32 % (last epoch)
        seed 2       99.37 % (last epoch)
        seed 3       99.53 % (last epoch)
        seed 4       99.52 % (last epoch)
        seed 5       99.41 % (last epoch)
        seed 6       99.40 % (last epoch)
        seed 7       99.31 % (last epoch)
        seed 8       99.45 % (last epoch)
        seed 9       99.45 % (last epoch)

    Analysis:
    - The target held in 7 of 10 seeds (95 % Wilson interval of the share of seeds: 39.7 % to 89.2 %): whether it holds
      depends on the seed; the lowest of the last epoch is 99.31 %.
    - Between seeds the last epoch varies by 0.08 points (standard deviation); the 95 % interval of its mean, by
      Student's t, is 99.37 to 99.49 %.
    - Mild overfitting: on images as they are, the last weights classify 99.85 % of the training and 99.43 % of the test
      images, 0.42 points apart, beyond two standard errors of 10,000 images (0.08 points each).
    - It uses 24,958 / 30,000 params, 83.2 % of the budget; 5,042 are left.
    - The receptive field of a cell of the last map (6 × 6) is 22 × 22 pixels, the image 28 × 28: no cell sees all of
      it, and only the head joins the parts.
    - The makers of MNIST fitted each digit into a box that a field of 22 × 22 pixels can hold: some cells see the digit
      whole.

    Receptive field:
        layer     kind                output  jump  sees
        stem.0    Conv2d 5 × 5       24 × 24     1     5
        stage1.0  Conv2d 3 × 3       24 × 24     1     7
        stage1.3  Conv2d 3 × 3       24 × 24     1     9
        stage2.0  MaxPool2d 2 × 2    12 × 12     2    10
        stage2.1  Conv2d 3 × 3       10 × 10     2    14
        stage2.4  Conv2d 3 × 3         8 × 8     2    18
        stage2.7  Conv2d 3 × 3         6 × 6     2    22
        head.0    AdaptiveAvgPool2d    1 × 1    12    32
        head.2    Linear                  10    12    32

    Origin:
        study       step_1_skeleton, trial 69, search seed 1, validation accuracy 99.33 %
        data        mnist; retrained on all training images, seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; test read once an
                    epoch, to report
        network     5x5:19 c21 c21 M 26 25 25 | gap fc:10
        input       pixels from 0 to 1, less 0.1307, over 0.3081
        recipe      learning_rate=0.02, batch_size=64, epochs=15, optimizer=sgd, momentum=0.9, nesterov=False,
                    weight_decay=0.0, schedule=constant, warmup=0.2, step_size=6, gamma=0.1, rotation=0.0, scale=0.0,
                    shift=0.0, shear=0.0, fill=0.0, flip=False, label_smoothing=0.0, ema=0.0
        trained by  budgetnet 0.1.0, torch 2.15.0, numba 0.68.1, python 3.11.7, 1 thread of Intel(R) Xeon(R) Processor
        weights     Model_1.safetensors, of seed 0, the first, after its last epoch
                    sha256 00a8ed839ba7a713d2386fa64f526538ac102cb730aae702fbd1198ddd4fedba
        evidence    Model_1.json, all that was recorded
                    sha256 e49ac2696a0fc95c89a10b6d77f82b1d12ede5c9f652916aefa4e6672ea2bffb
    """

    input_shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 19, 5, bias=False),  #             24 × 24, jump  1, receptive field  5
            nn.BatchNorm2d(19),
            nn.ReLU(),
        )
        self.stage1 = nn.Sequential(
            nn.Conv2d(19, 21, 3, padding=1, bias=False),  # 24 × 24, jump  1, receptive field  7
            nn.BatchNorm2d(21),
            nn.ReLU(),
            nn.Conv2d(21, 21, 3, padding=1, bias=False),  # 24 × 24, jump  1, receptive field  9
            nn.BatchNorm2d(21),
            nn.ReLU(),
        )
        self.stage2 = nn.Sequential(
            nn.MaxPool2d(2),  #                             12 × 12, jump  2, receptive field 10
            nn.Conv2d(21, 26, 3, bias=False),  #            10 × 10, jump  2, receptive field 14
            nn.BatchNorm2d(26),
            nn.ReLU(),
            nn.Conv2d(26, 25, 3, bias=False),  #              8 × 8, jump  2, receptive field 18
            nn.BatchNorm2d(25),
            nn.ReLU(),
            nn.Conv2d(25, 25, 3, bias=False),  #              6 × 6, jump  2, receptive field 22
            nn.BatchNorm2d(25),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  #                       1 × 1, jump 12, receptive field 32
            nn.Flatten(),
            nn.Linear(25, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) images → (N, 10) logits."""
        x = self.stem(x)  #              (N, 19, 24, 24)
        x = self.stage1(x)  #            (N, 21, 24, 24)
        x = self.stage2(x)  #            (N, 25, 6, 6)
        logits: Tensor = self.head(x)  # (N, 10)
        return logits


class Model_2(nn.Module):
    """(N, 1, 28, 28) images → (N, 10) logits, 7,594 params.

    Target: at least 99.4 % of the test images in every one of the last 5 of 15 epochs, with fewer than 8,000 params.
    The skeleton of Model_1 has 24,958 params; now the budget is 8,000, with a limit of MACs beside it. The recipe stays
    that of Model_1, the space is its skeleton alone: the difference is what both limits and a search within that
    skeleton cost together.

    Result: 99.30 ± 0.08 % (mean ± standard deviation of the last epoch over 10 seeds, 10,000 test images).
        params       7,594 / 8,000
        MACs         949,162
        activations  12,168 at the peak
        best train   99.54 % (running figure of an epoch: changing weights, images as augmented)
        clean train  99.69 % (mean of the last weights, images as they are)
        best test    99.48 % (chosen on test, so it flatters)
        lowest       99.18 % in the last 5 epochs of any seed
        held         0 of 10 seeds
        seed 0       99.26 99.30 99.40 99.34 99.32 % (last 5 epochs)
        seed 1       99.32 99.32 99.31 99.26 99.31 % (last 5 epochs)
        seed 2       99.28 99.33 99.26 99.32 99.25 % (last 5 epochs)
        seed 3       99.29 99.24 99.29 99.30 99.24 % (last 5 epochs)
        seed 4       99.34 99.24 99.23 99.39 99.48 % (last 5 epochs)
        seed 5       99.20 99.34 99.32 99.37 99.33 % (last 5 epochs)
        seed 6       99.26 99.21 99.31 99.21 99.35 % (last 5 epochs)
        seed 7       99.24 99.24 99.18 99.27 99.30 % (last 5 epochs)
        seed 8       99.44 99.25 99.28 99.34 99.25 % (last 5 epochs)
        seed 9       99.21 99.32 99.29 99.20 99.22 % (last 5 epochs)

    Analysis:
    - The target held in 0 of 10 seeds (95 % Wilson interval of the share of seeds: 0.0 % to 27.8 %): it is missed, and
      this network is no proof that the target can be held.
    - Between seeds the last epoch varies by 0.08 points (standard deviation); the 95 % interval of its mean, by
      Student's t, is 99.25 to 99.36 %.
    - Mild overfitting: on images as they are, the last weights classify 99.69 % of the training and 99.30 % of the test
      images, 0.39 points apart, beyond two standard errors of 10,000 images (0.08 points each).
    - No trend beyond the noise between seeds: mean test accuracy is 99.28 % at the first and 99.30 % at the last of the
      5 epochs (95 % interval of the rise -0.05 to +0.09 points, paired by seed, p 0.517).
    - Unsteady: one seed moved by 0.25 points within the last 5 epochs. Naming each seed's best epoch instead of its
      last would flatter it by 0.06 points on average.
    - It uses 7,594 / 8,000 params, 94.9 % of the budget; 406 are left.
    - The receptive field of a cell of the last map (5 × 5) is 22 × 22 pixels, the image 28 × 28: no cell sees all of
      it, and only the head joins the parts.
    - Changed against Model_1: 7 c11 M 14 14 14 13 | gap fc:10 (7,594 params) for 5x5:19 c21 c21 M 26 25 25 | gap fc:10
      (24,958); the same recipe.
    - Over 10 shared seeds it ends 0.12 points below Model_1: larger than the noise between seeds (95 % interval -0.20
      to -0.05 points, paired by seed, p 0.004) and between images: 76 test images are classified correctly by more of
      its seeds, 154 by more of Model_1's (exact paired test over images, p < 0.001).

    Receptive field:
        layer      kind                output  jump  sees
        stem.0     Conv2d 3 × 3       26 × 26     1     3
        stage1.0   Conv2d 3 × 3       26 × 26     1     5
        stage2.0   MaxPool2d 2 × 2    13 × 13     2     6
        stage2.1   Conv2d 3 × 3       11 × 11     2    10
        stage2.4   Conv2d 3 × 3         9 × 9     2    14
        stage2.7   Conv2d 3 × 3         7 × 7     2    18
        stage2.10  Conv2d 3 × 3         5 × 5     2    22
        head.0     AdaptiveAvgPool2d    1 × 1    10    30
        head.2     Linear                  10    10    30

    Origin:
        study       step_2_budget, trial 15, search seed 2, validation accuracy 99.24 %
        data        mnist; retrained on all training images, seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; test read once an
                    epoch, to report
        network     7 c11 M 14 14 14 13 | gap fc:10
        input       pixels from 0 to 1, less 0.1307, over 0.3081
        recipe      learning_rate=0.02, batch_size=64, epochs=15, optimizer=sgd, momentum=0.9, nesterov=False,
                    weight_decay=0.0, schedule=constant, warmup=0.2, step_size=6, gamma=0.1, rotation=0.0, scale=0.0,
                    shift=0.0, shear=0.0, fill=0.0, flip=False, label_smoothing=0.0, ema=0.0
        trained by  budgetnet 0.1.0, torch 2.15.0, numba 0.68.1, python 3.11.7, 1 thread of Intel(R) Xeon(R) Processor
        weights     Model_2.safetensors, of seed 0, the first, after its last epoch
                    sha256 9e93e422b8ba1054924d149611a5a91a4e224bcbeaffaedecd6e6f3d2fb6afc4
        evidence    Model_2.json, all that was recorded
                    sha256 209a5d7de6fc5479488f481d29033255bc969d63c5589c5a6c181ae547f73dda
    """

    input_shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 7, 3, bias=False),  #             26 × 26, jump  1, receptive field  3
            nn.BatchNorm2d(7),
            nn.ReLU(),
        )
        self.stage1 = nn.Sequential(
            nn.Conv2d(7, 11, 3, padding=1, bias=False),  # 26 × 26, jump  1, receptive field  5
            nn.BatchNorm2d(11),
            nn.ReLU(),
        )
        self.stage2 = nn.Sequential(
            nn.MaxPool2d(2),  #                            13 × 13, jump  2, receptive field  6
            nn.Conv2d(11, 14, 3, bias=False),  #           11 × 11, jump  2, receptive field 10
            nn.BatchNorm2d(14),
            nn.ReLU(),
            nn.Conv2d(14, 14, 3, bias=False),  #             9 × 9, jump  2, receptive field 14
            nn.BatchNorm2d(14),
            nn.ReLU(),
            nn.Conv2d(14, 14, 3, bias=False),  #             7 × 7, jump  2, receptive field 18
            nn.BatchNorm2d(14),
            nn.ReLU(),
            nn.Conv2d(14, 13, 3, bias=False),  #             5 × 5, jump  2, receptive field 22
            nn.BatchNorm2d(13),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  #                      1 × 1, jump 10, receptive field 30
            nn.Flatten(),
            nn.Linear(13, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) images → (N, 10) logits."""
        x = self.stem(x)  #              (N, 7, 26, 26)
        x = self.stage1(x)  #            (N, 11, 26, 26)
        x = self.stage2(x)  #            (N, 13, 5, 5)
        logits: Tensor = self.head(x)  # (N, 10)
        return logits


class Model_3(nn.Module):
    """(N, 1, 28, 28) images → (N, 10) logits, 7,594 params.

    Target: at least 99.4 % of the test images in every one of the last 5 of 15 epochs, with fewer than 8,000 params.
    The network of Model_2 ended at 99.30 ± 0.08 % and held the target in 0 of 10 seeds. Its layers and widths stay as
    they are, to the parameter; whether it generalises beyond that by another training, and another activation, is the
    question of this step.

    Result: 99.56 ± 0.03 % (mean ± standard deviation of the last epoch over 10 seeds, 10,000 test images).
        params       7,594 / 8,000
        MACs         949,162
        activations  12,168 at the peak
        best train   99.41 % (running figure of an epoch: changing weights, images as augmented)
        clean train  99.62 % (mean of the last weights, images as they are)
        best test    99.62 % (chosen on test, so it flatters)
        lowest       99.50 % in the last 5 epochs of any seed
        held         10 of 10 seeds
        seed 0       99.52 99.50 99.57 99.55 99.58 % (last 5 epochs)
        seed 1       99.55 99.58 99.56 99.61 99.62 % (last 5 epochs)
        seed 2       99.51 99.52 99.50 99.50 99.52 % (last 5 epochs)
        seed 3       99.54 99.53 99.56 99.58 99.58 % (last 5 epochs)
        seed 4       99.58 99.58 99.56 99.57 99.57 % (last 5 epochs)
        seed 5       99.55 99.57 99.54 99.54 99.53 % (last 5 epochs)
        seed 6       99.52 99.50 99.55 99.54 99.57 % (last 5 epochs)
        seed 7       99.59 99.60 99.58 99.60 99.59 % (last 5 epochs)
        seed 8       99.51 99.50 99.53 99.52 99.51 % (last 5 epochs)
        seed 9       99.54 99.54 99.56 99.57 99.54 % (last 5 epochs)

    Analysis:
    - The target held in 10 of 10 seeds (95 % Wilson interval of the share of seeds: 72.2 % to 100.0 %): from 10 seeds
      nobody may conclude that it always does.
    - Between seeds the last epoch varies by 0.03 points (standard deviation); the 95 % interval of its mean, by
      Student's t, is 99.54 to 99.59 %.
    - No overfitting beyond noise: on images as they are, the last weights classify 99.62 % of the training and 99.56 %
      of the test images, 0.06 points apart, within two standard errors of 10,000 images (0.07 points each).
    - No trend beyond the noise between seeds: mean test accuracy is 99.54 % at the first and 99.56 % at the last of the
      5 epochs (95 % interval of the rise -0.003 to +0.043 points, paired by seed, p 0.079).
    - Steady: no seed moved by more than 0.08 points within the last 5 epochs. Naming each seed's best epoch instead of
      its last would flatter it by 0.01 points on average.
    - It uses 7,594 / 8,000 params, 94.9 % of the budget; 406 are left.
    - The receptive field of a cell of the last map (5 × 5) is 22 × 22 pixels, the image 28 × 28: no cell sees all of
      it, and only the head joins the parts.
    - Changed against Model_2: [bn-silu] 7 c11 M 14 14 14 13 | gap fc:10 (7,594 params) for 7 c11 M 14 14 14 13 | gap
      fc:10 (7,594); in the recipe learning_rate 0.02 → 0.302, momentum 0.9 → 0.9008, nesterov False → True,
      weight_decay 0 → 0.0001769, schedule constant → onecycle, warmup 0.2 → 0.1676, rotation 0 → 13.38, scale 0 →
      0.1385, shift 0 → 0.02038, shear 0 → 0.1075, ema 0 → 0.995, teacher none →
      studies/step_3_generalise/teacher.safetensors#54547b938dd5, distill 0 → 0.6, temperature 2 → 4.
    - Over 10 shared seeds it ends 0.26 points above Model_2: larger than the noise between seeds (95 % interval +0.20
      to +0.31 points, paired by seed, p < 0.001) and between images: 189 test images are classified correctly by more
      of its seeds, 39 by more of Model_2's (exact paired test over images, p < 0.001).
    - Its teacher, the skeleton of the first step, takes part in training alone: what is frozen has 7,594 params and
      needs none.

    Receptive field:
        layer      kind                output  jump  sees
        stem.0     Conv2d 3 × 3       26 × 26     1     3
        stage1.0   Conv2d 3 × 3       26 × 26     1     5
        stage2.0   MaxPool2d 2 × 2    13 × 13     2     6
        stage2.1   Conv2d 3 × 3       11 × 11     2    10
        stage2.4   Conv2d 3 × 3         9 × 9     2    14
        stage2.7   Conv2d 3 × 3         7 × 7     2    18
        stage2.10  Conv2d 3 × 3         5 × 5     2    22
        head.0     AdaptiveAvgPool2d    1 × 1    10    30
        head.2     Linear                  10    10    30

    Origin:
        study       step_3_generalise, trial 15, search seed 3, validation accuracy 99.50 %
        data        mnist; retrained on all training images, seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; test read once an
                    epoch, to report
        network     [bn-silu] 7 c11 M 14 14 14 13 | gap fc:10
        input       pixels from 0 to 1, less 0.1307, over 0.3081
        recipe      learning_rate=0.30196253661462086, batch_size=64, epochs=15, optimizer=sgd,
                    momentum=0.900803298865912, nesterov=True, weight_decay=0.00017686836923384318, schedule=onecycle,
                    warmup=0.16759799922082813, step_size=6, gamma=0.1, rotation=13.37595007939789,
                    scale=0.1385378487644216, shift=0.020383304069786928, shear=0.10748687398891471, fill=0.0,
                    flip=False, label_smoothing=0.0, ema=0.995,
                    teacher=studies/step_3_generalise/teacher.safetensors#54547b938dd5, distill=0.6, temperature=4.0
        trained by  budgetnet 0.1.0, torch 2.15.0, numba 0.68.1, python 3.11.7, 1 thread of Intel(R) Xeon(R) Processor
        weights     Model_3.safetensors, of seed 0, the first, after its last epoch
                    sha256 2dbc46f1da4cfab5740af685331c8ff9500e16a406d3615d57c1ef360bb69cd3
        evidence    Model_3.json, all that was recorded
                    sha256 8b003c345d66132b398846cfd738c16e4e9db894d448dcfe8049e1fd1df10d30
    """

    input_shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 7, 3, bias=False),  #             26 × 26, jump  1, receptive field  3
            nn.BatchNorm2d(7),
            nn.SiLU(),
        )
        self.stage1 = nn.Sequential(
            nn.Conv2d(7, 11, 3, padding=1, bias=False),  # 26 × 26, jump  1, receptive field  5
            nn.BatchNorm2d(11),
            nn.SiLU(),
        )
        self.stage2 = nn.Sequential(
            nn.MaxPool2d(2),  #                            13 × 13, jump  2, receptive field  6
            nn.Conv2d(11, 14, 3, bias=False),  #           11 × 11, jump  2, receptive field 10
            nn.BatchNorm2d(14),
            nn.SiLU(),
            nn.Conv2d(14, 14, 3, bias=False),  #             9 × 9, jump  2, receptive field 14
            nn.BatchNorm2d(14),
            nn.SiLU(),
            nn.Conv2d(14, 14, 3, bias=False),  #             7 × 7, jump  2, receptive field 18
            nn.BatchNorm2d(14),
            nn.SiLU(),
            nn.Conv2d(14, 13, 3, bias=False),  #             5 × 5, jump  2, receptive field 22
            nn.BatchNorm2d(13),
            nn.SiLU(),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  #                      1 × 1, jump 10, receptive field 30
            nn.Flatten(),
            nn.Linear(13, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) images → (N, 10) logits."""
        x = self.stem(x)  #              (N, 7, 26, 26)
        x = self.stage1(x)  #            (N, 11, 26, 26)
        x = self.stage2(x)  #            (N, 13, 5, 5)
        logits: Tensor = self.head(x)  # (N, 10)
        return logits
